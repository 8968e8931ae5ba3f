use std::fs;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command, files, sample};

const SAMPLE: &str = "sample";
const LINES: u64 = 120_000;

/// Ships a generated sample in each format, with and without snappy, and lists the objects.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    build::run(workspace, build::Options::default())?;
    let input = workspace.target(SAMPLE);
    if !sample::exists(&input) {
        println!("generating {LINES} logs to {}", workspace.relative(&input).display());
        sample::generate(&input, LINES, sample::SEED)?;
    }
    let out = workspace.path("out/demo");
    files::remove_dir(&out)?;
    for format in ["json", "csv", "parquet"] {
        for compression in ["none", "snappy"] {
            println!();
            ship(workspace, format, compression)?;
        }
    }
    println!("\nThe objects, in {}:", out.display());
    for object in files::walk(&out)? {
        let kilobytes = fs::metadata(&object)?.len() / 1000;
        println!("{kilobytes:>8} kB  {}", workspace.relative(&object).display());
    }
    Ok(())
}

fn ship(workspace: &Workspace, format: &str, compression: &str) -> Result<()> {
    let suffix = if compression == "none" { "" } else { "-snappy" };
    let (program, input) = (workspace.program(), workspace.target(SAMPLE));
    let mut ship = workspace.command(workspace.relative(&program));
    ship.arg("ship").arg(workspace.relative(&input)).arg("--to").arg(format!("out/demo/{format}{suffix}"));
    command::show(ship.args(["--format", format, "--compression", compression]))
}
