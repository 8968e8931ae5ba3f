use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::measure::{self, Cost};
use crate::sample::{self, Access};
use crate::workspace::Workspace;
use crate::{command, files, venv};

/// One way to turn the sample into objects.
struct Case {
    name: &'static str,
    program: Program,
    runs: Vec<Cost>,
}

enum Program {
    Logship(&'static [&'static str]),
    DuckDb,
}

const ONE_THREAD: &str = "8 shards, 1 thread: JSON";
const TWO_THREADS: &str = "8 shards, 2 threads: JSON";

const CASES: [(&str, &[&str]); 4] = [
    ("JSON", &["--format", "json", "--threads", "1"]),
    ("Parquet, snappy", &["--format", "parquet", "--compression", "snappy", "--threads", "1"]),
    (ONE_THREAD, &["--format", "json", "--shards", "8", "--shard-by", "request_id", "--threads", "1"]),
    (TWO_THREADS, &["--format", "json", "--shards", "8", "--shard-by", "request_id", "--threads", "2"]),
];

/// Ships a sample of so many access logs in each way, and returns a table of the medians.
pub(super) fn run(workspace: &Workspace, lines: u64, runs: usize) -> Result<String> {
    let input = input(workspace, lines)?;
    let mut cases: Vec<Case> = CASES.map(|(name, args)| Case::new(name, Program::Logship(args))).into();
    let python = venv::ready(workspace)?;
    if python.is_some() {
        cases.push(Case::new("DuckDB: Parquet, snappy", Program::DuckDb));
    } else {
        println!("without DuckDB, for target/venv is missing; `cargo xtask test` makes it");
    }
    let out = workspace.target("bench/out");
    // In turns, so that a machine that grows slower does so for all. The first round warms up.
    for round in 0..=runs {
        for case in &mut cases {
            files::remove_dir(&out)?;
            files::make_dir(&out)?;
            let mut command = case.command(workspace, python.as_deref(), &input, &out);
            let cost = measure::run(&mut command)?;
            eprintln!("{round}/{runs} {}: {:.2} s, {:.2} s of CPU", case.name, cost.wall, cost.cpu);
            if round > 0 {
                case.runs.push(cost);
            }
        }
    }
    files::remove_dir(&out)?;
    let megabytes = fs::metadata(&input)?.len() as f64 / 1e6;
    let duckdb = python.map(|python| version_of_duckdb(workspace, &python)).transpose()?;
    Ok(table(&cases, lines, megabytes, runs, duckdb.as_deref()))
}

fn input(workspace: &Workspace, lines: u64) -> Result<std::path::PathBuf> {
    let dir = workspace.target("bench/sample");
    files::make_dir(&dir)?;
    let path = dir.join("access.ndjson");
    // Made anew: it takes a second or two, and a change of the generator would go unseen.
    sample::write::<Access>(&path, lines, sample::SEED)?;
    Ok(path)
}

impl Case {
    fn new(name: &'static str, program: Program) -> Self {
        Self { name, program, runs: vec![] }
    }

    fn command(&self, workspace: &Workspace, python: Option<&Path>, input: &Path, out: &Path) -> Command {
        match (&self.program, python) {
            (Program::DuckDb, Some(python)) => {
                let mut command = workspace.command(python);
                command.args(["-c", include_str!("duckdb.py")]).arg(input).arg(out.join("logs.parquet"));
                command
            }
            (Program::Logship(args), _) => {
                let mut command = workspace.command(workspace.program());
                command.arg("ship").arg(input).arg("--to").arg(out).args(*args);
                command
            }
            (Program::DuckDb, None) => unreachable!("a case only with Python"),
        }
    }

    fn wall(&self) -> f64 {
        measure::median(self.runs.iter().map(|cost| cost.wall))
    }

    fn cpu(&self) -> f64 {
        measure::median(self.runs.iter().map(|cost| cost.cpu))
    }
}

fn table(cases: &[Case], lines: u64, megabytes: f64, runs: usize, duckdb: Option<&str>) -> String {
    let mut text = format!(
        "From NDJSON to objects: {lines} access logs of 10 fields, {megabytes:.0} MB; medians of {runs} runs \
         in turns, start of the program included.\n\n\
         | | MB per CPU second | MB per second | CPU s | s |\n|---|---:|---:|---:|---:|\n"
    );
    for case in cases {
        let (cpu, wall) = (case.cpu(), case.wall());
        let (per_cpu, per_second) = (megabytes / cpu, megabytes / wall);
        text += &format!("| {} | {per_cpu:.0} | {per_second:.0} | {cpu:.2} | {wall:.2} |\n", case.name);
    }
    let wall = |name| cases.iter().find(|case| case.name == name).map_or(f64::NAN, Case::wall);
    text += &format!("\nTwo threads are {:.2} times as fast as one.\n", wall(ONE_THREAD) / wall(TWO_THREADS));
    if let Some(version) = duckdb {
        text += &format!(
            "DuckDB {version} with one thread, `COPY (SELECT * FROM read_json(…)) TO …`, in Python.\n"
        );
    }
    text
}

fn version_of_duckdb(workspace: &Workspace, python: &Path) -> Result<String> {
    command::read(workspace.command(python).args(["-c", "import duckdb; print(duckdb.__version__)"]))
        .context("`cargo xtask test` makes target/venv anew when tests/requirements.txt has changed")
}
