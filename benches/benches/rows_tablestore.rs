//! Benchmark of rows for Table Store: the stage, in one thread, to a sink that discards them, against the vendor's client
//! that encodes the same rows in the same run: `cargo bench -p logship-bench --bench rows_tablestore`.
//!
//! The variable `PYTHON` names a Python with the package `tablestore`; without it, only the stage is measured.

use std::env;
use std::hint::black_box;
use std::io::Write;
use std::process::{Command, Stdio};

use logship_batch::batch::LogBatch;
use logship_bench::{chunks, cpu_seconds, line, log_bytes, median};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits};
use logship_runtime::stage::{Positions, RowColumn, Table};

const LOGS: u64 = 200_000;
const LOGS_OF_VENDOR: u64 = 5_000;
const ROUNDS: usize = 9;

/// The default key of a rule, and two typed columns.
const CONFIG: &str = r#"{"columns":[{"column":"_logstore","constant":"3f9c/web/access"},
    {"column":"_shard","system":"shard"},{"column":"_cursor","system":"cursor"},{"column":"_n","system":"index"},
    {"column":"status","field":"status"},{"column":"latency","field":"latency"}]}"#;

/// Encodes the same logs with the vendor's client, and prints the seconds that it takes.
const VENDOR: &str = r#"
import json, sys, time
from tablestore.plainbuffer.plain_buffer_builder import PlainBufferBuilder
def row(n, text):
    log = json.loads(text)
    key = [(b"_logstore", "3f9c/web/access"), (b"_shard", 0), (b"_cursor", 1), (b"_n", n)]
    log["status"], log["latency"] = int(log["status"]), float(log["latency"])
    values = ((name.encode(), value if name in ("__time__", "status", "latency") else str(value)) for name, value in log.items())
    return key, list(values)
rows = [row(n, text) for n, text in enumerate(open(sys.argv[1]))]
begun = time.process_time()
size = sum(len(PlainBufferBuilder.serialize_for_put_row(*row)) for row in rows)
print(time.process_time() - begun, size)
"#;

fn main() {
    let chunks = chunks(&(0..LOGS).map(line).collect::<Vec<_>>());
    let bytes = chunks.iter().map(log_bytes).sum::<usize>() as f64;
    let registry = Registry::new(Engine::new(Limits::default(), None).expect("an engine"));
    let stage = registry.row_encoder("rows-tablestore").expect("a built-in stage");
    let (mut speeds, mut made) = (vec![], 0);
    for round in 0..=ROUNDS {
        let mut session = stage.open(CONFIG, &table()).expect("a configuration");
        let begun = cpu_seconds();
        let rows = chunks.iter().map(|batch| session.push(batch, &positions(batch)).expect("encodes"));
        made = rows.map(|rows| black_box(rows).bytes.len()).sum();
        // Round 0 warms up.
        if round > 0 {
            speeds.push(bytes / (cpu_seconds() - begun) / 1e6);
        }
    }
    println!(
        "### Rows of Table Store\n\n{LOGS} access logs of 10 fields, {:.0} bytes of logs and {:.0} bytes of rows each, encoded by one \
         thread and discarded. Median of {ROUNDS} rounds. MB are those of the logs, for each second of CPU time.\n",
        bytes / LOGS as f64,
        made as f64 / LOGS as f64
    );
    println!("| | MB/s |\n|---|---:|\n| `rows-tablestore` | {:.0} |", median(speeds));
    if let Some(python) = env::var_os("PYTHON") {
        let seconds = vendor(&python);
        println!(
            "| `tablestore` 6.4.8 of PyPI, its encoder | {:.1} |",
            bytes / LOGS as f64 * LOGS_OF_VENDOR as f64 / seconds / 1e6
        );
    }
}

fn table() -> Table {
    let column = |(name, data_type): (&str, &str)| RowColumn {
        name: name.into(),
        data_type: data_type.into(),
        nullable: true,
    };
    let key = [("_logstore", "string"), ("_shard", "integer"), ("_cursor", "integer"), ("_n", "integer")];
    let columns = [("status", "integer"), ("latency", "double")];
    Table { key: key.map(column).into(), columns: columns.map(column).into() }
}

fn positions(batch: &LogBatch) -> Positions {
    let logs = batch.len();
    let indexes = (0..logs as u32).collect();
    Positions { shard: 0, cursors: vec![1; logs], indexes, receive_times: vec![0; logs] }
}

fn vendor(python: &std::ffi::OsStr) -> f64 {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let lines: String = (0..LOGS_OF_VENDOR).map(|number| line(number) + "\n").collect();
    file.write_all(lines.as_bytes()).expect("written");
    let mut command = Command::new(python);
    let output =
        command.args(["-c", VENDOR]).arg(file.path()).stderr(Stdio::null()).output().expect("Python");
    let printed = String::from_utf8(output.stdout).expect("text");
    printed.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).expect("seconds")
}
