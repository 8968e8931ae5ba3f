//! The commands that set up, build, try, test and measure logship: `cargo xtask COMMAND`.
//!
//! - `workspace`: where things are.
//! - `stages`, `toolchain`, `rustup`, `debian`: stages as WebAssembly components, and what compiles them.
//! - `build`, `demo`, `test`, `bench`, `sample`: the commands, one a file.
//! - `venv`, `apt`: what a test needs besides Rust.
//! - `command`, `files`: child processes and files, with errors that say what to do.

mod apt;
mod bench;
mod build;
mod command;
mod debian;
mod demo;
mod files;
mod rustup;
mod sample;
mod stages;
mod test;
mod toolchain;
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
                                     the stages (all, or those named), then the program
  demo                               ships a generated sample in every format, to out/demo
  sample --lines N --to DIR [--seed S]
                                     writes access.ndjson and app.ndjson, the same for the same seed
  test [-- ARG...]                   builds all, then runs the tests in Rust and those of other
                                     readers in Python; ARGs go to cargo test
  bench [stages|service|shipping|siem|functions|ship]... [--lines N] [--runs N] [--write] [-- ARG...]
                                     measures (all, by default); --write puts the tables in
                                     BENCHMARKS.md; ARGs go to the benchmarks of stages and service

Environment:
  LOGSHIP_GUESTS=rustup|debian       what compiles the stages; else whichever works, rustup first
  CARGO_TARGET_DIR                   instead of target/
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
    // Before or behind a command: it is the same help.
    let mut own = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    if own.any(|arg| arg == "--help" || arg == "-h") || std::env::args_os().len() == 1 {
        print!("{HELP}");
        return Ok(());
    }
    let mut args = lexopt::Parser::from_env();
    let command = match args.next()? {
        Some(Value(command)) => command.string()?,
        other => bail!("{}\n\n{HELP}", other.map_or("no command".into(), |arg| arg.unexpected().to_string())),
    };
    let workspace = Workspace::find()?;
    match command.as_str() {
        "build" => build::run(&workspace, build_options(args)?),
        "demo" => nothing_more(args).and_then(|()| demo::run(&workspace)),
        "sample" => sample(args),
        "test" => test::run(&workspace, &passed_on(args)?),
        "bench" => bench::run(&workspace, bench_options(args)?),
        other => bail!("no command {other:?}\n\n{HELP}"),
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
        bail!("sample takes --lines N and --to DIR: cargo xtask sample --lines 120000 --to target/sample");
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

fn nothing_more(mut args: lexopt::Parser) -> Result<()> {
    args.next()?.map_or(Ok(()), |arg| Err(arg.unexpected().into()))
}
