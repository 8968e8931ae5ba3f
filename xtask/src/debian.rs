use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{Rustc, TARGETS, Toolchain, number};
use crate::workspace::Workspace;
use crate::{apt, command, files};

const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];
// By path: on PATH, rustup's would come first.
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";

/// Debian's own Rust, installed if need be.
pub(crate) fn toolchain(workspace: &Workspace, rustc: &Rustc) -> Result<Toolchain> {
    if !is_installed() {
        apt::install(&PACKAGES, "compile the stages").with_context(|| {
            format!("stages need more targets: when online, `rustup target add {}`", TARGETS.join(" "))
        })?;
    }
    if !is_installed() {
        bail!(
            "{RUSTC}, {CARGO} or {SOURCES} is missing although {} are installed; \
             when online, `rustup target add {}` spares them",
            PACKAGES.join(", "),
            TARGETS.join(" ")
        );
    }
    let linkers = rustc.linkers().into_iter().chain(own_linkers()).collect();
    let version = number(&command::read(workspace.command(RUSTC).arg("--version"))?);
    Ok(Toolchain {
        name: format!("Debian's rustc {version}, with the standard library from its sources"),
        cargo: CARGO.into(),
        args: &["-Zbuild-std=std,panic_abort"],
        env: vec![
            ("RUSTC", RUSTC.into()),
            // -Zbuild-std is for nightly compilers otherwise.
            ("RUSTC_BOOTSTRAP", "1".into()),
        ],
        // The C library of WASI is a package of its own here.
        function_flags: "-L/usr/lib/wasm32-wasi -Clink-self-contained=no",
        linkers,
    })
}

/// Whether an earlier build found rustup unable to add the target, and Debian's Rust is still here.
pub(crate) fn is_remembered(workspace: &Workspace) -> bool {
    fs::read_to_string(workspace.target(MEMORY)).is_ok_and(|text| text == REMEMBERED) && is_installed()
}

const MEMORY: &str = "guest-toolchain";
const REMEMBERED: &str = "debian\n";

/// Spares later builds from asking rustup.
pub(crate) fn remember(workspace: &Workspace) -> Result<()> {
    files::make_dir(&workspace.target(""))?;
    let file = workspace.target(MEMORY);
    fs::write(&file, REMEMBERED).with_context(|| format!("cannot write {}", file.display()))
}

fn is_installed() -> bool {
    [RUSTC, CARGO, SOURCES].iter().all(|path| Path::new(path).exists())
}

/// Where Debian's packages keep linkers, if rustup has none.
fn own_linkers() -> impl Iterator<Item = std::path::PathBuf> {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let bin = Path::new("/usr/lib/rustlib").join(host).join("bin");
    [bin.clone(), bin.join("gcc-ld")].into_iter()
}
