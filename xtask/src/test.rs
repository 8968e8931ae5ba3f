use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command, sample, venv};

/// Number of logs in the sample of the reader tests, enough for several row groups and chunks.
const LINES: u64 = 12_000;

/// Number of pytest processes. Tests wait more than they compute.
const WORKERS: &str = "4";

/// Option to print the slowest Python tests.
const DURATIONS: &str = "--durations=15";

/// The package with a real S3 server for tests.
const S3_SERVER: &str = "logship-s3-server";

/// Builds everything, then runs the Rust and the Python tests.
pub(crate) fn run(workspace: &Workspace, passed_on: &[String]) -> Result<()> {
    build::run(workspace, build::Options { examples: true, ..Default::default() })?;
    // In two steps: tested together, the packages would require other features of wasmtime's
    // dependencies than the program's build, and cargo would recompile them for minutes.
    let program = ["logship", "logship-batch", "logship-spin-runtime"];
    let others = program.into_iter().chain(["logship-bench", S3_SERVER]).flat_map(|name| ["--exclude", name]);
    let others = ["--workspace"].into_iter().chain(others).collect::<Vec<_>>();
    for packages in [program.into_iter().flat_map(|name| ["--package", name]).collect(), others] {
        command::show(workspace.cargo().args(["test", "--release"]).args(packages).args(passed_on))?;
    }
    command::show(&mut pytest(workspace)?)
}

/// Builds everything, then runs the long tests at full length. `test` runs a tenth of it.
pub(crate) fn soak(workspace: &Workspace) -> Result<()> {
    build::run(workspace, build::Options { examples: true, ..Default::default() })?;
    let crash = ["test", "--release", "--package", "logship", "--test", "crash"];
    command::show(workspace.cargo().args(crash).env("LOGSHIP_SOAK", "1"))?;
    command::show(pytest(workspace)?.args(["-m", "soak", "-rP"]).env("LOGSHIP_SOAK", "1"))
}

/// Returns the command of the Python tests. It fails if pytest collects no test.
fn pytest(workspace: &Workspace) -> Result<Command> {
    let sample = workspace.target("tests/sample");
    sample::generate(&sample, LINES, sample::SEED)?;
    // Built separately, as its dependencies require other features again.
    command::show(workspace.cargo().args(["build", "--release", "--package", S3_SERVER]))?;
    let mut tests = workspace.command(venv::python(workspace)?);
    // tests/conftest.py gives each test class to one worker.
    tests.args(["-m", "pytest", "tests", "--numprocesses", WORKERS, DURATIONS]);
    tests.env("LOGSHIP", workspace.program()).env("LOGSHIP_SAMPLE", &sample);
    tests.env("LOGSHIP_S3_SERVER", workspace.program().with_file_name(S3_SERVER));
    // Keeps the source folders free of caches.
    tests.env("PYTHONDONTWRITEBYTECODE", "1").args(["-p", "no:cacheprovider"]);
    Ok(tests)
}
