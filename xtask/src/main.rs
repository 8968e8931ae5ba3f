//! Development commands that build, demonstrate, test and benchmark logship: `cargo xtask COMMAND`.
//!
//! - `workspace`: paths of the project.
//! - `stages`, `toolchain`, `rustup`, `debian`: builds stages as WebAssembly components, and selects their toolchain.
//! - `build`, `demo`, `test`, `fuzz`, `bench`, `sample`: one command per file.
//! - `house`, `dependencies`, `sbom`: the crates of the host, and what they depend on.
//! - `tools`: WebAssembly tools of others, for the long tests.
//! - `venv`, `apt`: tools of the tests other than Rust.
//! - `command`, `files`: helpers for child processes and files.

mod apt;
mod artifacts;
mod bench;
mod build;
mod command;
mod debian;
mod demo;
mod dependencies;
mod files;
mod fuzz;
mod house;
mod modules;
mod packages;
mod rustup;
mod sample;
mod sbom;
mod stages;
mod steps;
mod test;
mod test_profile;
mod toolchain;
mod tools;
mod venv;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;

use workspace::Workspace;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  build [--examples] [--stages-only] [-p STAGE]...
                                     builds the stages (all, or only STAGEs), then the program
  demo                               ships a generated sample in every format, to out/demo
  sample --lines N --to DIR [--seed S]
                                     writes access.ndjson and app.ndjson; equal seeds give equal files
  test [-- ARG...]                   builds everything, then runs the Rust tests and the Python tests;
                                     ARGs go to cargo test
  house                              prints the crates of host/ and checks who imports whom;
                                     writes the table into host/README.md
  sbom [--to FILE]                   lists the components in the program, as CycloneDX;
                                     default: out/logship.cdx.json
  fuzz [--seconds N]                 builds the fuzz targets, and runs each for N seconds (default: 10)
  soak                               builds everything, and wac, wkg and wasmtime, then runs the long
                                     tests at full length; test runs a tenth of it
  bench [stages|rows|service|shipping|siem|functions|ship]... [--lines N] [--runs N] [--write] [-- ARG...]
                                     runs the benchmarks (default: all); --write updates the tables
                                     in BENCHMARKS.md; ARGs go to the cargo benchmarks

Environment:
  LOGSHIP_SOAK=FRACTION              length of the long tests; 1 is full; default: 0.1
  LOGSHIP_GUESTS=rustup|debian       toolchain of the stages; default: rustup, else debian
  CARGO_TARGET_DIR                   build folder; default: target/
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // --help before or after a command prints the same help.
    let mut own_args = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    if own_args.any(|arg| arg == "--help" || arg == "-h") || std::env::args_os().len() == 1 {
        print!("{HELP}");
        return Ok(());
    }
    let mut args = lexopt::Parser::from_env();
    let command = match args.next()? {
        Some(Value(command)) => command.string()?,
        other => {
            bail!("{}\n\n{HELP}", other.map_or("missing command".into(), |arg| arg.unexpected().to_string()))
        }
    };
    let workspace = Workspace::find()?;
    match command.as_str() {
        "build" => build::run(&workspace, build_options(args)?),
        "demo" => no_more_args(args).and_then(|()| demo::run(&workspace)),
        "sample" => sample(args),
        "test" => test::run(&workspace, &passed_on(args)?),
        "house" => no_more_args(args).and_then(|()| house::run(&workspace)),
        "sbom" => sbom(&workspace, args),
        "fuzz" => fuzz(&workspace, args),
        "soak" => no_more_args(args).and_then(|()| test::soak(&workspace)),
        "bench" => bench::run(&workspace, bench_options(args)?),
        other => bail!("unknown command {other:?}\n\n{HELP}"),
    }
}

fn build_options(mut args: lexopt::Parser) -> Result<build::Options> {
    let mut options = build::Options::default();
    while let Some(arg) = args.next()? {
        match arg {
            Long("examples") => options.examples = true,
            Long("stages-only") => options.stages_only = true,
            Short('p') | Long("package") => options.only.push(args.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn sbom(workspace: &Workspace, mut args: lexopt::Parser) -> Result<()> {
    let mut to = workspace.path("out/logship.cdx.json");
    while let Some(arg) = args.next()? {
        match arg {
            Long("to") => to = args.value()?.into(),
            other => return Err(other.unexpected().into()),
        }
    }
    sbom::run(workspace, &to)
}

fn fuzz(workspace: &Workspace, mut args: lexopt::Parser) -> Result<()> {
    let mut seconds = fuzz::SECONDS;
    while let Some(arg) = args.next()? {
        match arg {
            Long("seconds") => seconds = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    fuzz::run(workspace, seconds)
}

fn sample(mut args: lexopt::Parser) -> Result<()> {
    let (mut lines, mut to, mut seed) = (None, None, sample::SEED);
    while let Some(arg) = args.next()? {
        match arg {
            Long("lines") => lines = Some(args.value()?.parse()?),
            Long("to") => to = Some(args.value()?),
            Long("seed") => seed = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let (Some(lines), Some(to)) = (lines, to) else {
        bail!(
            "sample requires --lines N and --to DIR, such as: cargo xtask sample --lines 120000 --to target/sample"
        );
    };
    sample::generate(to.as_ref(), lines, seed)
}

fn bench_options(mut args: lexopt::Parser) -> Result<bench::Options> {
    let mut options = bench::Options::default();
    let mut sections = vec![];
    while let Some(arg) = args.next()? {
        match arg {
            Value(part) if bench::SECTIONS.iter().any(|section| part == *section) => {
                sections.push(part.string()?);
            }
            Long("lines") => options.lines = args.value()?.parse()?,
            Long("runs") => options.runs = args.value()?.parse()?,
            Long("write") => options.write = true,
            Value(arg) => options.passed_on.push(arg.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if !sections.is_empty() {
        options.sections = sections;
    }
    Ok(options)
}

fn passed_on(mut args: lexopt::Parser) -> Result<Vec<String>> {
    let mut values = vec![];
    while let Some(arg) = args.next()? {
        match arg {
            Value(value) => values.push(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(values)
}

fn no_more_args(mut args: lexopt::Parser) -> Result<()> {
    args.next()?.map_or(Ok(()), |arg| Err(arg.unexpected().into()))
}
