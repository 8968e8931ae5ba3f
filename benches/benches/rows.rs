//! Benchmark of row encoders to a sink that discards, on one core: `cargo xtask bench rows`.
//!
//! The vendor's client for Python encodes the same rows in the same run. Standard output is a section of BENCHMARKS.md.

use std::hint::black_box;
use std::process::Command;

use logship_batch::batch::LogBatch;
use logship_bench::{chunks, cpu_seconds, line, log_bytes, median};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits};
use logship_runtime::stage::{Positions, RowColumn, RowEncoderStage, Table};

const LOGS: usize = 200_000;
const ROUNDS: usize = 7;
/// The columns of the table, and their types.
const COLUMNS: [(&str, &str); 13] = [
    ("__time__", "datetime"),
    ("__topic__", "string"),
    ("__source__", "string"),
    ("method", "string"),
    ("path", "string"),
    ("status", "int"),
    ("bytes", "bigint"),
    ("latency", "double"),
    ("host", "string"),
    ("client_ip", "string"),
    ("referer", "string"),
    ("user_agent", "string"),
    ("request_id", "string"),
];
/// The rows of the client's run: it is slower.
const CLIENT_LOGS: usize = 20_000;

fn main() {
    let lines: Vec<String> = (0..LOGS as u64).map(line).collect();
    let chunks = chunks(&lines);
    let bytes: usize = chunks.iter().map(log_bytes).sum();
    let raw = bytes as f64 / LOGS as f64;
    let registry = Registry::new(Engine::new(Limits::default(), None).expect("an engine"));
    println!(
        "### Rows\n\nRows of {LOGS} access logs, {raw:.0} bytes of keys and values each, as a block of 13 columns that is discarded. Time \
         of one core; medians of {ROUNDS} rounds. The client of the vendor (pyodps) gets the same rows as Python values.\n\n\
         | encoder | raw MB/s | thousand rows/s | bytes a row |\n|---|---:|---:|---:|"
    );
    for protocol in ["maxcompute-arrow", "maxcompute-stream"] {
        let stage = registry.row_encoder("encode-maxcompute").expect("a built-in stage");
        let config = config(protocol);
        let (mut times, mut size) = (vec![], 0);
        for round in 0..=ROUNDS {
            let begun = cpu_seconds();
            size = black_box(block(&stage, &config, &chunks));
            // Round 0 warms up.
            times.extend((round > 0).then(|| cpu_seconds() - begun));
        }
        let seconds = median(times);
        row(
            &format!("`encode-maxcompute`, `{protocol}`"),
            LOGS as f64 / seconds,
            raw,
            size as f64 / LOGS as f64,
        );
    }
    client(&lines, raw);
}

/// Encodes the chunks as one block, as the host does. Returns its size.
fn block(stage: &RowEncoderStage, config: &str, chunks: &[LogBatch]) -> usize {
    let mut session = stage.open(config, &table()).expect("a configuration");
    let push = |(number, chunk): (usize, &LogBatch)| {
        let rows = session.push(chunk, &positions(number, chunk)).expect("encodes");
        assert_eq!(rows.count as usize, chunk.len(), "{:?}", rows.dirty.first());
        rows.bytes.len()
    };
    let size: usize = chunks.iter().enumerate().map(push).sum();
    size + session.finish().expect("encodes").len()
}

fn table() -> Table {
    let column = |(name, data_type): &(&str, &str)| RowColumn {
        name: name.trim_matches('_').into(),
        data_type: (*data_type).into(),
        nullable: true,
    };
    Table { key: vec![], columns: COLUMNS.iter().map(column).collect() }
}

fn config(protocol: &str) -> String {
    let column =
        |(name, _): &(&str, &str)| serde_json::json!({ "column": name.trim_matches('_'), "field": name });
    let columns: Vec<_> = COLUMNS.iter().map(column).collect();
    serde_json::json!({ "columns": columns, "protocol": protocol }).to_string()
}

fn positions(number: usize, chunk: &LogBatch) -> Positions {
    Positions {
        shard: 0,
        cursors: vec![number as u64; chunk.len()],
        indexes: (0..chunk.len() as u32).collect(),
        receive_times: chunk.times.clone(),
    }
}

/// Measures the vendor's client.
fn client(lines: &[String], raw: f64) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("logs");
    std::fs::write(&file, lines[..CLIENT_LOGS].join("\n")).expect("a file");
    let script = format!("{root}/benches/pyodps_rows.py");
    let columns = serde_json::json!(COLUMNS).to_string();
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    let run = Command::new(format!("{target}/venv/bin/python")).args([&script, &columns]).arg(&file).output();
    let found = run.ok().filter(|run| run.status.success()).map(|run| run.stdout);
    let Some(found) = found.and_then(|text| serde_json::from_slice::<Vec<(String, f64, f64)>>(&text).ok())
    else {
        eprintln!("pyodps can't run: `cargo xtask test` installs it in target/venv");
        return;
    };
    for (name, rows, size) in found {
        row(&name, rows, raw, size);
    }
}

fn row(name: &str, rows: f64, raw: f64, size: f64) {
    println!("| {name} | {:.0} | {:.0} | {size:.0} |", rows * raw / 1e6, rows / 1e3);
}
