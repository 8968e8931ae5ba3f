//! Creates a Logstore with logs, and helpers of the processes that ship it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use logship_batch::log_group::log_groups;
use logship_batch::parser::{Parser, Settings};
use logship_bench::line;
use logship_logstore::{LogstoreSettings, NewGroup, Options, Store};
use logship_sls::compression::Compression;
use logship_sls::log_group::LogGroupView;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Number of logs in a log group of about 100 KB.
const LOGS_PER_GROUP: u64 = 400;

/// Returns the service's data folder.
pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Creates the Logstore `ship` in the project `bench`, and puts `total_bytes` of logs, before compression.
pub(crate) fn fill(folder: &Path, shards: u32, total_bytes: usize) {
    let data = data(folder);
    let _ = fs::remove_dir_all(&data);
    let store = Store::open(&data, Options { shards, ..Options::default() }).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let settings = LogstoreSettings { ttl: 1, settings: serde_json::Value::Null };
    runtime.block_on(store.create_project("bench", "")).expect("a project");
    runtime.block_on(store.create_logstore("bench", "ship", shards, &settings)).expect("a logstore");
    let catalog = store.catalog();
    let logstore = catalog.logstore("bench", "ship").expect("a logstore");
    // The same groups repeatedly.
    let groups: Vec<NewGroup> = (0..100).map(group).collect();
    let (mut bytes, mut number) = (0, 0);
    while bytes < total_bytes {
        let shard = logstore.shard(number % shards).expect("a shard");
        let group = groups[number as usize % groups.len()].clone();
        bytes += group.size as usize;
        let batch = vec![group];
        runtime.block_on(store.put(shard, batch)).expect("stored");
        number += 1;
    }
    store.close();
}

fn group(number: u64) -> NewGroup {
    let lines: Vec<String> = (number * LOGS_PER_GROUP..(number + 1) * LOGS_PER_GROUP).map(line).collect();
    // A log group has only one source.
    let lines =
        lines.join("\n").replace(r#""__source__":"10.0.3."#, r#""__source__":"10.0.3.1","host_number":""#);
    let settings = Settings { time_field: None, default_time: (0, 0), shards: 1, shard_field: String::new() };
    let parsed = Parser::new(settings).parse(lines.as_bytes());
    let raw = log_groups(&parsed.batches[0].1, "").remove(0);
    let view = LogGroupView::parse(&raw).expect("a log group");
    NewGroup {
        body: Compression::Lz4.compress(&raw).expect("packed").into(),
        size: raw.len() as u32,
        logs: view.log_count(),
        newest: view.newest_time().unwrap_or_default(),
    }
}

/// Runs this program in a new process, and returns its output.
pub(crate) fn run(arguments: &[&str]) -> String {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .output()
        .expect("started");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Pins this process to the given cores.
pub(crate) fn run_on(cores: std::ops::Range<usize>) {
    let mut set = CpuSet::new();
    cores.for_each(|core| set.set(core));
    sched_setaffinity(None, &set).expect("a core");
}

/// Returns the process's peak memory, in MiB.
pub(crate) fn peak_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
