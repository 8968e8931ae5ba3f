use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use crate::{command, debian, rustup};

/// The target of stages. The linker produces a component without WASI imports.
pub(crate) const STAGE_TARGET: &str = "wasm32-unknown-unknown";

/// The target of functions, which use WASI HTTP.
pub(crate) const FUNCTION_TARGET: &str = "wasm32-wasip2";

pub(crate) const TARGETS: [&str; 2] = [STAGE_TARGET, FUNCTION_TARGET];

/// The Rust toolchain that compiles stages and functions.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The display name.
    pub(crate) name: String,
    pub(crate) cargo: PathBuf,
    pub(crate) args: &'static [&'static str],
    pub(crate) env: Vec<(&'static str, OsString)>,
    /// Additional compiler flags for functions.
    pub(crate) function_flags: &'static str,
    /// Folders with the linker `wasm-component-ld`, and `wasm-ld`, which it calls.
    pub(crate) linkers: Vec<PathBuf>,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Toolchain {
    /// Finds a toolchain. Prefers rustup's, and adds its missing targets. Falls back to Debian's, which compiles the
    /// standard library from source.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        let rustc = Rustc::query(workspace)?;
        let wanted = env::var("LOGSHIP_GUESTS").unwrap_or_default();
        match wanted.as_str() {
            "rustup" if rustc.has_targets() || rustup::add_targets(workspace) => rustup::toolchain(&rustc),
            "rustup" => {
                bail!(
                    "rustup cannot add the targets; run `rustup target add {}` to see the error",
                    TARGETS.join(" ")
                )
            }
            "debian" => debian::toolchain(workspace, &rustc),
            "" if rustc.has_targets() => rustup::toolchain(&rustc),
            // rustup is tried only once, as it may take long to fail offline.
            "" if debian::is_remembered(workspace) => debian::toolchain(workspace, &rustc),
            "" if rustup::add_targets(workspace) && rustc.has_targets() => rustup::toolchain(&rustc),
            "" => {
                let toolchain = debian::toolchain(workspace, &rustc)?;
                debian::remember(workspace)?;
                Ok(toolchain)
            }
            other => bail!("LOGSHIP_GUESTS={other} is invalid: set it to `rustup` or `debian`, or unset it"),
        }
    }

    /// Returns a `cargo build` command for a target, without environment variables meant for the program's build.
    pub(crate) fn cargo_build(&self, workspace: &Workspace, target: &str) -> Command {
        let mut command = workspace.command(&self.cargo);
        for name in
            ["RUSTC", "RUSTDOC", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"]
        {
            command.env_remove(name);
        }
        command.env("PATH", self.path());
        let target_flags = if target == FUNCTION_TARGET { self.function_flags } else { "" };
        command
            .env("RUSTFLAGS", format!("-Clinker=wasm-component-ld -Ctarget-feature=+simd128 {target_flags}"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(["build", "--target", target]).args(self.args);
        command
    }

    fn path(&self) -> OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = self.linkers.iter().cloned().chain(env::split_paths(&path));
        env::join_paths(folders).unwrap_or(path)
    }
}

/// The compiler that builds the program.
#[derive(Debug)]
pub(crate) struct Rustc {
    pub(crate) version: String,
    sysroot: PathBuf,
    host: String,
}

impl Rustc {
    fn query(workspace: &Workspace) -> Result<Self> {
        let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let rustc = || workspace.command(&program);
        let [sysroot, host] =
            &lines(&command::read(rustc().args(["--print", "sysroot", "--print", "host-tuple"]))?)[..]
        else {
            bail!("this rustc is too old for logship; get a newer one: `rustup update stable`");
        };
        let version = version_number(&command::read(rustc().arg("--version"))?);
        Ok(Self { version, sysroot: sysroot.into(), host: host.to_owned() })
    }

    fn has_targets(&self) -> bool {
        TARGETS.iter().all(|target| self.sysroot.join("lib/rustlib").join(target).join("lib").is_dir())
    }

    /// Returns the toolchain's folders with the linkers `wasm-component-ld` and `wasm-ld`.
    pub(crate) fn linkers(&self) -> Vec<PathBuf> {
        let bin = self.sysroot.join("lib/rustlib").join(&self.host).join("bin");
        vec![bin.clone(), bin.join("gcc-ld")]
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Returns the version number, such as `1.95.0` from `rustc 1.95.0 (… 2026-04-14)`.
pub(crate) fn version_number(version: &str) -> String {
    version.split_whitespace().nth(1).unwrap_or(version).to_owned()
}
