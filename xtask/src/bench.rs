mod machine;
mod measure;
mod report;
mod ship;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command};

/// Each stage by itself, the Logstore service and its store, shipping a Logstore, sending it to a SIEM, stages in functions, the program from NDJSON to objects.
/// All but the last are benchmarks of the package.
pub(crate) const SECTIONS: [&str; 6] = ["stages", "service", "shipping", "siem", "functions", "ship"];

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// The sections: some of [`SECTIONS`].
    pub(crate) sections: Vec<String>,
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
            sections: SECTIONS.map(str::to_owned).to_vec(),
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
    let is_wanted = |section: &str| options.sections.iter().any(|wanted| wanted == section);
    for name in SECTIONS.into_iter().filter(|name| *name != "ship" && is_wanted(name)) {
        println!();
        // Its standard output is the section. Built as the program is, so that nothing is built twice.
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
