use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::measure::{self, Cost};
use crate::sample::{self, Access};
use crate::workspace::Workspace;
use crate::{command, files, venv};

/// A benchmark case: a program with options that converts the sample to objects.
struct Case {
    name: String,
    program: Program,
    runs: Vec<Cost>,
}

enum Program {
    Logship(Vec<&'static str>),
    DuckDb,
}

const CASES: [(&str, &[&str]); 2] = [
    ("JSON", &["--format", "json", "--threads", "1"]),
    ("Parquet, snappy", &["--format", "parquet", "--compression", "snappy", "--threads", "1"]),
];

/// Formats shipped from 8 shards, by one thread and by two.
const FORMATS: [(&str, &[&str]); 3] = [
    ("JSON", &["--format", "json"]),
    ("JSON, snappy", &["--format", "json", "--compression", "snappy"]),
    ("Parquet, snappy", &["--format", "parquet", "--compression", "snappy"]),
];
const SHARDS: [&str; 4] = ["--shards", "8", "--shard-by", "request_id"];
const THREADS: [&str; 2] = ["1", "2"];

/// Ships a sample of `lines` access logs in each case, and returns a table of the medians.
pub(super) fn run(workspace: &Workspace, lines: u64, runs: usize) -> Result<String> {
    let input = input(workspace, lines)?;
    let case = |(name, args): (&str, &[&'static str])| Case::new(name.into(), Program::Logship(args.into()));
    let mut cases: Vec<Case> = CASES.into_iter().map(case).collect();
    for (format, args) in FORMATS {
        cases.extend(THREADS.map(|threads| {
            let args = [args, &SHARDS, &["--threads", threads]].concat();
            Case::new(sharded_name(format, threads), Program::Logship(args))
        }));
    }
    let python = venv::up_to_date(workspace)?;
    if python.is_some() {
        cases.push(Case::new("DuckDB: Parquet, snappy".into(), Program::DuckDb));
    } else {
        println!(
            "skipping DuckDB, as target/venv is missing or outdated; run `cargo xtask test` to create it"
        );
    }
    let out = workspace.target("bench/out");
    // Cases alternate, so that a slowdown of the machine affects all. Round 0 is a warm-up.
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
    let duckdb = python.map(|python| duckdb_version(workspace, &python)).transpose()?;
    Ok(table(&cases, lines, megabytes, runs, duckdb.as_deref()))
}

fn input(workspace: &Workspace, lines: u64) -> Result<std::path::PathBuf> {
    let dir = workspace.target("bench/sample");
    files::make_dir(&dir)?;
    let path = dir.join("access.ndjson");
    // Always regenerated, which takes a second or two, as the generator may have changed.
    sample::write::<Access>(&path, lines, sample::SEED)?;
    Ok(path)
}

impl Case {
    fn new(name: String, program: Program) -> Self {
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
                command.arg("ship").arg(input).arg("--to").arg(out).args(args);
                command
            }
            (Program::DuckDb, None) => unreachable!("the case requires Python"),
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
        "From NDJSON to objects: {lines} access logs of 10 fields, {megabytes:.0} MB; medians of {runs} \
         alternating runs, including the start of the program.\n\n\
         | | MB per CPU second | MB per second | CPU s | s |\n|---|---:|---:|---:|---:|\n"
    );
    for case in cases {
        let (cpu, wall) = (case.cpu(), case.wall());
        let (per_cpu, per_second) = (megabytes / cpu, megabytes / wall);
        text += &format!("| {} | {per_cpu:.0} | {per_second:.0} | {cpu:.2} | {wall:.2} |\n", case.name);
    }
    let wall = |name: String| cases.iter().find(|case| case.name == name).map_or(f64::NAN, Case::wall);
    let gains = FORMATS.map(|(format, _)| {
        let [one, two] = THREADS.map(|threads| wall(sharded_name(format, threads)));
        format!("{:.2} times for {format}", one / two)
    });
    text += &format!("\nTwo threads are faster than one: {}.\n", gains.join(", "));
    if let Some(version) = duckdb {
        text += &format!(
            "DuckDB {version} with one thread, `COPY (SELECT * FROM read_json(…)) TO …`, in Python.\n"
        );
    }
    text
}

fn sharded_name(format: &str, threads: &str) -> String {
    format!("8 shards, {threads} thread{}: {format}", if threads == "1" { "" } else { "s" })
}

fn duckdb_version(workspace: &Workspace, python: &Path) -> Result<String> {
    command::read(workspace.command(python).args(["-c", "import duckdb; print(duckdb.__version__)"]))
        .context("run `cargo xtask test` to recreate target/venv after a change of tests/requirements.txt")
}
