use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{Rustc, TARGETS, Toolchain, version_number};
use crate::workspace::Workspace;
use crate::{apt, command, files};

const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];
// Absolute paths, as rustup's programs may be first on PATH.
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";

/// Returns Debian's Rust toolchain, and installs it if necessary.
pub(crate) fn toolchain(workspace: &Workspace, rustc: &Rustc) -> Result<Toolchain> {
    if !is_installed() {
        apt::install(&PACKAGES, "compile the stages").with_context(|| {
            format!("stages need more targets: when online, `rustup target add {}`", TARGETS.join(" "))
        })?;
    }
    if !is_installed() {
        bail!(
            "{RUSTC}, {CARGO} or {SOURCES} is missing although {} are installed; \
             reinstall them, or run `rustup target add {}` when online",
            PACKAGES.join(", "),
            TARGETS.join(" ")
        );
    }
    let linkers = rustc.linkers().into_iter().chain(debian_linkers()).collect();
    let version = version_number(&command::read(workspace.command(RUSTC).arg("--version"))?);
    Ok(Toolchain {
        name: format!("Debian's rustc {version}, with the standard library built from source"),
        cargo: CARGO.into(),
        args: &["-Zbuild-std=std,panic_abort"],
        env: vec![
            ("RUSTC", RUSTC.into()),
            // Allows -Zbuild-std with a stable compiler.
            ("RUSTC_BOOTSTRAP", "1".into()),
        ],
        // Debian has WASI's C library in a separate package.
        function_flags: "-L/usr/lib/wasm32-wasi -Clink-self-contained=no",
        linkers,
    })
}

/// Returns true if an earlier build chose Debian's Rust because rustup failed, and it is still installed.
pub(crate) fn is_remembered(workspace: &Workspace) -> bool {
    fs::read_to_string(workspace.target(CHOICE_FILE)).is_ok_and(|text| text == DEBIAN_CHOICE)
        && is_installed()
}

const CHOICE_FILE: &str = "guest-toolchain";
const DEBIAN_CHOICE: &str = "debian\n";

/// Records the choice of Debian's Rust, so that later builds don't try rustup.
pub(crate) fn remember(workspace: &Workspace) -> Result<()> {
    files::make_dir(&workspace.target(""))?;
    let file = workspace.target(CHOICE_FILE);
    fs::write(&file, DEBIAN_CHOICE).with_context(|| format!("cannot write {}", file.display()))
}

fn is_installed() -> bool {
    [RUSTC, CARGO, SOURCES].iter().all(|path| Path::new(path).exists())
}

/// Returns the linker folders of Debian's packages.
fn debian_linkers() -> impl Iterator<Item = std::path::PathBuf> {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let bin = Path::new("/usr/lib/rustlib").join(host).join("bin");
    [bin.clone(), bin.join("gcc-ld")].into_iter()
}
