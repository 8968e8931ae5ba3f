use std::fs;
use std::process::Command;
use std::thread;

use anyhow::Result;

use crate::command;
use crate::workspace::Workspace;

/// Describes the machine, the versions and the date of a benchmark run.
pub(super) fn describe(workspace: &Workspace) -> Result<String> {
    let cores = thread::available_parallelism()?;
    let rustc = command::read(workspace.command("rustc").arg("--version"))?;
    let rustc = rustc.split(" (").next().unwrap_or(&rustc);
    let logship = command::read(workspace.command(workspace.program()).arg("--version"))?;
    let wasmtime = locked_version(workspace, "wasmtime").unwrap_or_else(|| "?".into());
    let date = command::read(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    Ok(format!("{}, {cores} cores; {logship}, wasmtime {wasmtime}, {rustc}; {date}.", processor()))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Returns a dependency's version in Cargo.lock.
fn locked_version(workspace: &Workspace, package: &str) -> Option<String> {
    let lock = fs::read_to_string(workspace.path("Cargo.lock")).ok()?;
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_owned())
}
