use std::time::Duration;

use anyhow::Result;

use crate::command;
use crate::toolchain::{Rustc, TARGETS, Toolchain};
use crate::workspace::Workspace;

/// Enough for a download of 40 MB on a slow connection. Offline, rustup usually fails at once.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Adds the targets to the active rustup toolchain. Returns true on success.
pub(crate) fn add_targets(workspace: &Workspace) -> bool {
    let mut rustup = workspace.command("rustup");
    rustup.env("RUSTUP_MAX_RETRIES", "1").args(["target", "add"]).args(TARGETS);
    command::succeeds(&mut rustup, TIMEOUT)
}

/// Returns the toolchain of the running cargo, whose compiler has the targets.
pub(crate) fn toolchain(rustc: &Rustc) -> Result<Toolchain> {
    Ok(Toolchain {
        name: format!("rustc {} with the targets {}", rustc.version, TARGETS.join(" and ")),
        cargo: std::env::var_os("CARGO").map_or_else(|| "cargo".into(), Into::into),
        args: &[],
        env: vec![],
        function_flags: "",
        linkers: rustc.linkers(),
    })
}
