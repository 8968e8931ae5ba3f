use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use crate::{command, debian, rustup};

/// What stages are compiled for: the linker makes a component of it, without any import of WASI.
pub(crate) const STAGE: &str = "wasm32-unknown-unknown";

/// What functions are compiled for, which speak HTTP by WASI.
pub(crate) const FUNCTION: &str = "wasm32-wasip2";

pub(crate) const TARGETS: [&str; 2] = [STAGE, FUNCTION];

/// What compiles stages.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// What it is, for people.
    pub(crate) name: String,
    pub(crate) cargo: PathBuf,
    pub(crate) args: &'static [&'static str],
    pub(crate) env: Vec<(&'static str, OsString)>,
    /// More flags of the compiler where it compiles a function.
    pub(crate) function_flags: &'static str,
    /// Folders of the linkers `wasm-component-ld` and, for that, `wasm-ld`.
    pub(crate) linkers: Vec<PathBuf>,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Toolchain {
    /// The first that works here: rustup's with the target, installed if it can be; then Debian's,
    /// which compiles the standard library from its sources.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        let rustc = Rustc::ask(workspace)?;
        let wanted = env::var("LOGSHIP_GUESTS").unwrap_or_default();
        match wanted.as_str() {
            "rustup" if rustc.has_targets() || rustup::add_targets(workspace) => rustup::toolchain(&rustc),
            "rustup" => {
                bail!(
                    "rustup cannot add the targets; try `rustup target add {}` to see why",
                    TARGETS.join(" ")
                )
            }
            "debian" => debian::toolchain(workspace, &rustc),
            "" if rustc.has_targets() => rustup::toolchain(&rustc),
            // Asked once: offline, rustup may take its time to give up.
            "" if debian::is_remembered(workspace) => debian::toolchain(workspace, &rustc),
            "" if rustup::add_targets(workspace) && rustc.has_targets() => rustup::toolchain(&rustc),
            "" => {
                let toolchain = debian::toolchain(workspace, &rustc)?;
                debian::remember(workspace)?;
                Ok(toolchain)
            }
            other => bail!("LOGSHIP_GUESTS={other}: say `rustup`, `debian`, or leave it out"),
        }
    }

    /// `cargo build` for stages, with nothing in its environment that is meant for the program.
    pub(crate) fn cargo_build(&self, workspace: &Workspace, target: &str) -> Command {
        let mut command = workspace.command(&self.cargo);
        for name in
            ["RUSTC", "RUSTDOC", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"]
        {
            command.env_remove(name);
        }
        command.env("PATH", self.path());
        let own = if target == FUNCTION { self.function_flags } else { "" };
        command.env("RUSTFLAGS", format!("-Clinker=wasm-component-ld -Ctarget-feature=+simd128 {own}"));
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

/// The compiler of the program.
#[derive(Debug)]
pub(crate) struct Rustc {
    pub(crate) version: String,
    sysroot: PathBuf,
    host: String,
}

impl Rustc {
    fn ask(workspace: &Workspace) -> Result<Self> {
        let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let rustc = || workspace.command(&program);
        let [sysroot, host] =
            &lines(&command::read(rustc().args(["--print", "sysroot", "--print", "host-tuple"]))?)[..]
        else {
            bail!("this rustc is too old for logship; get a newer one: `rustup update stable`");
        };
        let version = number(&command::read(rustc().arg("--version"))?);
        Ok(Self { version, sysroot: sysroot.into(), host: host.to_owned() })
    }

    fn has_targets(&self) -> bool {
        TARGETS.iter().all(|target| self.sysroot.join("lib/rustlib").join(target).join("lib").is_dir())
    }

    /// Folders in which a toolchain keeps linkers: `wasm-component-ld`, and `wasm-ld` for that.
    pub(crate) fn linkers(&self) -> Vec<PathBuf> {
        let bin = self.sysroot.join("lib/rustlib").join(&self.host).join("bin");
        vec![bin.clone(), bin.join("gcc-ld")]
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// `1.95.0` of `rustc 1.95.0 (… 2026-04-14)`.
pub(crate) fn number(version: &str) -> String {
    version.split_whitespace().nth(1).unwrap_or(version).to_owned()
}
