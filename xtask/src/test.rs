use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command, sample, venv};

/// Logs that the readers' tests ship: enough for several row groups and chunks.
const LINES: u64 = 12_000;

/// Tests in Python: readers of what is shipped, clients of the service, and SIEMs.
const ALONE: [&str; 3] = ["tests/readers", "tests/clients", "tests/siem"];

/// More of them: stages, object stores and functions. They wait more than they work, and for nothing to be over in time.
const BESIDE: [&str; 3] = ["tests/stages", "tests/stores", "tests/functions"];

/// A real S3 server, for tests.
const S3_SERVER: &str = "logship-s3-server";

/// Builds all there is, then runs the tests in Rust and those of other readers and clients.
pub(crate) fn run(workspace: &Workspace, passed_on: &[String]) -> Result<()> {
    build::run(workspace, build::Options { examples: true, ..Default::default() })?;
    // In two steps: tested together, the packages would want other features of wasmtime's
    // dependencies than the program was just built with, and minutes of compiling come twice.
    let program = ["logship", "logship-core", "logship-function"];
    let others = program.into_iter().chain(["logship-bench", S3_SERVER]).flat_map(|name| ["--exclude", name]);
    let others = ["--workspace"].into_iter().chain(others).collect::<Vec<_>>();
    for packages in [program.into_iter().flat_map(|name| ["--package", name]).collect(), others] {
        command::show(workspace.cargo().args(["test", "--release"]).args(packages).args(passed_on))?;
    }
    let sample = workspace.target("tests/sample");
    sample::generate(&sample, LINES, sample::SEED)?;
    // By itself, as its dependencies want other features again.
    let server = ["build", "--release", "--package", S3_SERVER];
    command::show(workspace.cargo().args(server))?;
    let python = venv::python(workspace)?;
    let suite = |folder| {
        let mut tests = workspace.command(&python);
        tests.args(["-m", "unittest", "discover", "--start-directory", folder]);
        tests.env("LOGSHIP", workspace.program()).env("LOGSHIP_SAMPLE", &sample);
        tests.env("LOGSHIP_S3_SERVER", workspace.program().with_file_name(S3_SERVER));
        // The sources' folders stay as they are.
        tests.env("PYTHONDONTWRITEBYTECODE", "1");
        tests
    };
    ALONE.into_iter().try_for_each(|folder| command::show(&mut suite(folder)))?;
    let log = |folder: &str| workspace.target(&format!("{folder}.log"));
    command::show_in_pairs(BESIDE.map(|folder| (suite(folder), log(folder))).into())
}
