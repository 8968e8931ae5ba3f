//! Short runs of the fuzz targets.
//!
//! The stable compiler can count coverage, so that a run needs no nightly toolchain and no `cargo-fuzz`. It can't detect
//! memory errors of unsafe code: `cargo fuzz` does, with AddressSanitizer (fuzz/README.md).

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// Flags of `cargo fuzz` that the stable compiler has.
const FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The fuzz targets: a file each.
const TARGETS: &str = "fuzz/fuzz_targets";

/// Default length of a run, in seconds.
pub(crate) const SECONDS: u64 = 10;

/// Builds all fuzz targets, and runs each for some seconds. Fails at the first input that violates an invariant.
pub(crate) fn run(workspace: &Workspace, seconds: u64) -> Result<()> {
    let host = host(workspace)?;
    let folder = workspace.target("fuzz");
    let mut cargo = workspace.cargo();
    // With a target, the flags don't apply to build scripts.
    cargo.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &host]);
    command::show(cargo.arg("--target-dir").arg(&folder).env("RUSTFLAGS", FLAGS))?;
    for target in targets(workspace)? {
        let artifacts = folder.join("artifacts").join(&target);
        fs::create_dir_all(&artifacts).with_context(|| format!("cannot create {}", artifacts.display()))?;
        let mut program = Command::new(folder.join(&host).join("release").join(&target));
        program.args([
            &format!("-max_total_time={seconds}"),
            "-rss_limit_mb=512",
            "-timeout=10",
            "-verbosity=0",
            "-print_funcs=0",
        ]);
        program.args(["-print_final_stats=1", &format!("-artifact_prefix={}/", artifacts.display())]);
        println!("=== {target}");
        command::run(&mut program)?;
    }
    Ok(())
}

/// The platform of this machine, as rustc names it.
fn host(workspace: &Workspace) -> Result<String> {
    let version = command::read(workspace.command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.path(TARGETS);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut targets = vec![];
    for entry in entries {
        targets.extend(entry?.path().file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    targets.sort();
    if targets.is_empty() {
        bail!("{} has no targets", folder.display());
    }
    Ok(targets)
}
