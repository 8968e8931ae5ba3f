mod machine;
mod measure;
mod report;
mod ship;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command};

/// Benchmarks: single stages, row encoders, the service and its store, shipping, SIEM delivery, functions, and
/// `logship ship`. All but `ship` are cargo benchmarks of the package logship-bench.
pub(crate) const SECTIONS: [&str; 7] = ["stages", "rows", "service", "shipping", "siem", "functions", "ship"];

/// Options of a benchmark run.
#[derive(Debug)]
pub(crate) struct Options {
    /// The benchmarks to run, a subset of [`SECTIONS`].
    pub(crate) sections: Vec<String>,
    /// Number of logs in the sample of `ship`.
    pub(crate) lines: u64,
    /// Number of runs per case of `ship`.
    pub(crate) runs: usize,
    /// Writes the tables to BENCHMARKS.md.
    pub(crate) write: bool,
    /// Arguments for the cargo benchmarks.
    pub(crate) passed_on: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sections: SECTIONS.map(str::to_owned).to_vec(),
            lines: 1_000_000,
            runs: 5,
            write: false,
            passed_on: vec![],
        }
    }
}

/// Runs the benchmarks, and prints the tables.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<()> {
    build::run(workspace, build::Options::default())?;
    let machine = machine::describe(workspace)?;
    println!("\n{machine}");
    let mut sections = vec![];
    let is_wanted = |section: &str| options.sections.iter().any(|wanted| wanted == section);
    for name in SECTIONS.into_iter().filter(|name| *name != "ship" && is_wanted(name)) {
        println!();
        // Standard output is the section. Uses the program's profile, so that nothing is built twice.
        let args = ["bench", "--package", "logship-bench", "--bench", name, "--profile", "release", "--"];
        sections.push((name, command::tee(workspace.cargo().args(args).args(&options.passed_on))?));
    }
    if is_wanted("ship") {
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
