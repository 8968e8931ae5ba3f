mod machine;
mod measure;
mod report;
mod ship;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command};

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// Each stage by itself, by the benchmark `stages` of the program's package.
    pub(crate) stages: bool,
    /// The Logstore service and its store, by the benchmark `service`.
    pub(crate) service: bool,
    /// The program from NDJSON to objects.
    pub(crate) ship: bool,
    /// Logs of the sample that the program ships.
    pub(crate) lines: u64,
    /// Runs of each case.
    pub(crate) runs: usize,
    /// Whether the tables go to BENCHMARKS.md.
    pub(crate) write: bool,
    /// For the benchmark of the stages.
    pub(crate) passed_on: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stages: true,
            service: true,
            ship: true,
            lines: 1_000_000,
            runs: 5,
            write: false,
            passed_on: vec![],
        }
    }
}

/// Measures, and prints the tables.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<()> {
    build::run(workspace, build::Options::default())?;
    let machine = machine::describe(workspace)?;
    println!("\n{machine}");
    let mut sections = vec![];
    for (name, wanted) in [("stages", options.stages), ("service", options.service)] {
        if !wanted {
            continue;
        }
        println!();
        // Its standard output is the section. Built as the program is, so that nothing is built twice.
        let args = ["bench", "--package", "logship-bench", "--bench", name, "--profile", "release", "--"];
        sections.push((name, command::tee(workspace.cargo().args(args).args(&options.passed_on))?));
    }
    if options.ship {
        let table = ship::run(workspace, options.lines, options.runs)?;
        println!("\n{table}");
        sections.push(("ship", table));
    }
    if options.write {
        report::write(&workspace.path("BENCHMARKS.md"), &machine, &sections)?;
        println!("written to BENCHMARKS.md");
    }
    Ok(())
}
