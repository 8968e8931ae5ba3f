use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::artifacts::Artifacts;
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{build, command, files, sample, test_profile, tools, venv};

/// Number of logs in the sample of the reader tests, enough for several row groups and chunks.
const LINES: u64 = 12_000;

/// Number of tests at a time: threads of a Rust test, and processes of pytest. Tests wait more than they compute.
const WORKERS: &str = "8";

/// Option to print the slowest Python tests.
const DURATIONS: &str = "--durations=15";

/// The program with failpoints, in the target directory.
const FAILPOINTS: &str = "tests/logship-failpoints";

/// The package with a real S3 server for tests.
const S3_SERVER: &str = "logship-s3-server";

/// Builds everything, then runs the Rust and the Python tests.
pub(crate) fn run(workspace: &Workspace, passed_on: &[String]) -> Result<()> {
    let mut steps = Steps::default();
    let result = run_steps(workspace, passed_on, &mut steps);
    print!("\n{}", steps.table());
    result
}

fn run_steps(workspace: &Workspace, passed_on: &[String], steps: &mut Steps) -> Result<()> {
    steps.run("stages and program", || {
        build::run(workspace, build::Options { examples: true, ..Default::default() })
    })?;
    let profile = test_profile::write(workspace)?;
    let rust_tests = || {
        let mut cargo = workspace.cargo();
        cargo.arg("test").arg("--config").arg(&profile).args(["--release", "--workspace"]);
        cargo.env("RUST_TEST_THREADS", WORKERS);
        cargo
    };
    steps.run("build of Rust tests", || build_with_same_features(workspace, rust_tests().arg("--no-run")))?;
    steps.run("Rust tests", || command::show(rust_tests().args(passed_on)))?;
    steps.run("program with failpoints", || build_failpoints(workspace, &profile))?;
    steps.run("Python tests", || command::show(&mut pytest(workspace)?))
}

/// Builds everything, then runs the long tests at full length. `test` runs a tenth of it.
pub(crate) fn soak(workspace: &Workspace) -> Result<()> {
    build::run(workspace, build::Options { examples: true, ..Default::default() })?;
    let crash = ["test", "--release", "--workspace", "--test", "crash"];
    command::show(workspace.cargo().args(crash).env("LOGSHIP_SOAK", "1"))?;
    build_failpoints(workspace, &test_profile::write(workspace)?)?;
    let tools = tools::install(workspace)?;
    let mut tests = pytest(workspace)?;
    tests.args(["-m", "soak", "-rP"]).env("LOGSHIP_SOAK", "1").env("LOGSHIP_TOOLS", tools);
    command::show(&mut tests)
}

/// Runs a build after that of the program.
///
/// # Errors
/// Fails if the build has a dependency of the program with other features: then cargo compiles it and all that depend on it
/// twice, which makes every fresh build minutes longer.
fn build_with_same_features(workspace: &Workspace, cargo: &mut Command) -> Result<()> {
    println!("$ {}", command::line(cargo));
    let known =
        Artifacts::parse(&build_messages(workspace.cargo().args(["build", "--release", "-p", "logship"]))?)?;
    let twice = known.differences(&Artifacts::parse(&build_messages(cargo)?)?);
    if !twice.is_empty() {
        bail!(
            "these are compiled with other features than for the program: {}; add the features to \
             host/feature-graph/Cargo.toml",
            twice.join(", ")
        );
    }
    Ok(())
}

/// Runs a build, and returns cargo's messages about it.
fn build_messages(cargo: &mut Command) -> Result<String> {
    command::read(cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit()))
}

/// Returns the build of the program and of the servers of the tests.
fn build_programs(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", "logship", "--package", S3_SERVER]);
    cargo
}

/// Builds a program that tests can abort at steps of a task, beside the one for users.
fn build_failpoints(workspace: &Workspace, profile: &Path) -> Result<()> {
    build_with_same_features(
        workspace,
        build_programs(workspace).arg("--config").arg(profile).args(["--features", "logship/failpoints"]),
    )?;
    let copy = workspace.target(FAILPOINTS);
    files::make_dir(&workspace.target("tests"))?;
    files::copy_if_changed(&workspace.program(), &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    // Cargo has one name for all of them, and kept that one.
    command::show(&mut build_programs(workspace))
}

/// Returns the command of the Python tests. It fails if pytest collects no test.
fn pytest(workspace: &Workspace) -> Result<Command> {
    let sample = workspace.target("tests/sample");
    sample::generate(&sample, LINES, sample::SEED)?;
    let mut tests = workspace.command(venv::python(workspace)?);
    // tests/conftest.py gives each test class to one worker.
    tests.args(["-m", "pytest", "tests", "--numprocesses", WORKERS, DURATIONS]);
    tests.env("LOGSHIP", workspace.program()).env("LOGSHIP_SAMPLE", &sample);
    tests.env("LOGSHIP_FAILPOINTS", workspace.target(FAILPOINTS));
    tests.env("LOGSHIP_S3_SERVER", workspace.program().with_file_name(S3_SERVER));
    // Keeps the source folders free of caches.
    tests.env("PYTHONDONTWRITEBYTECODE", "1").args(["-p", "no:cacheprovider"]);
    Ok(tests)
}
