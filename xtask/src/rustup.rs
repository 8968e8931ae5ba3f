use std::time::Duration;

use anyhow::Result;

use crate::command;
use crate::toolchain::{Rustc, TARGETS, Toolchain};
use crate::workspace::Workspace;

/// For a download of 40 MB on a slow line; offline, rustup gives up by itself, as a rule at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether rustup has the targets now, for the toolchain in use.
pub(crate) fn add_targets(workspace: &Workspace) -> bool {
    let mut rustup = workspace.command("rustup");
    rustup.env("RUSTUP_MAX_RETRIES", "1").args(["target", "add"]).args(TARGETS);
    command::succeeds(&mut rustup, PATIENCE)
}

/// The cargo that runs us, for whose compiler the targets are there.
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
