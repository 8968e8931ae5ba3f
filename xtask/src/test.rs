use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{build, command, files, sample, tools, venv};

/// Number of logs in the sample of the reader tests, enough for several row groups and chunks.
const LINES: u64 = 12_000;

/// Number of pytest processes. Tests wait more than they compute.
const WORKERS: &str = "6";

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
    steps.run("build of Rust tests", || {
        command::show(workspace.cargo().args(["test", "--release", "--workspace", "--no-run"]))?;
        build_servers(workspace)
    })?;
    steps.run("Rust tests", || {
        command::show(workspace.cargo().args(["test", "--release", "--workspace"]).args(passed_on))
    })?;
    steps.run("program with failpoints", || build_failpoints(workspace))?;
    steps.run("Python tests", || command::show(&mut pytest(workspace)?))
}

/// Builds everything, then runs the long tests at full length. `test` runs a tenth of it.
pub(crate) fn soak(workspace: &Workspace) -> Result<()> {
    build::run(workspace, build::Options { examples: true, ..Default::default() })?;
    let crash = ["test", "--release", "--workspace", "--test", "crash"];
    command::show(workspace.cargo().args(crash).env("LOGSHIP_SOAK", "1"))?;
    build_failpoints(workspace)?;
    let tools = tools::install(workspace)?;
    let mut tests = pytest(workspace)?;
    tests.args(["-m", "soak", "-rP"]).env("LOGSHIP_SOAK", "1").env("LOGSHIP_TOOLS", tools);
    command::show(&mut tests)
}

/// Builds the servers of the tests together with the program.
///
/// # Errors
/// Fails if cargo compiles a dependency of the program again: then the program alone and the workspace ask for different
/// features, and every fresh build takes minutes longer.
fn build_servers(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", "logship", "--package", S3_SERVER]);
    let messages = command::read(cargo.args(["--message-format", "json"]))?;
    let rebuilt = rebuilt(&messages)?;
    if !rebuilt.is_empty() {
        bail!(
            "the tests were built with other features than the program: cargo compiled {} again; \
             add the features to host/feature-graph/Cargo.toml",
            rebuilt.join(", ")
        );
    }
    Ok(())
}

/// Builds a program that tests can abort at steps of a task, beside the one for users.
fn build_failpoints(workspace: &Workspace) -> Result<()> {
    let build = ["build", "--release", "--package", "logship", "--package", S3_SERVER, "--features"];
    command::show(workspace.cargo().args(build).arg("logship/failpoints"))?;
    let copy = workspace.target(FAILPOINTS);
    files::make_dir(&workspace.target("tests"))?;
    files::copy_if_changed(&workspace.program(), &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    // Cargo has one name for both, and kept the other one.
    build_servers(workspace)
}

/// Returns the packages that cargo compiled, of those that the program depends on too.
fn rebuilt(messages: &str) -> Result<Vec<String>> {
    let mut rebuilt = vec![];
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cargo printed something else than JSON")?;
        let is_fresh = message["fresh"].as_bool().unwrap_or(true);
        let package = message["package_id"].as_str().unwrap_or_default();
        if message["reason"] == "compiler-artifact" && !is_fresh && package.contains("wasmtime") {
            rebuilt.push(package.to_owned());
        }
    }
    Ok(rebuilt)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recompiled_wasmtime_is_found() {
        let message = |package: &str, fresh: bool| {
            format!(r#"{{"reason":"compiler-artifact","package_id":"{package}","fresh":{fresh}}}"#)
        };
        let messages = [message("a#wasmtime@48.0.8", true), message("b#s3s@1.0.0", false)].join("\n");
        assert_eq!(rebuilt(&messages).unwrap(), Vec::<String>::new());
        assert_eq!(rebuilt(&message("a#wasmtime@48.0.8", false)).unwrap(), ["a#wasmtime@48.0.8"]);
        assert!(rebuilt("warning: text").is_err());
    }
}
