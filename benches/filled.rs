//! A Logstore to ship, and what processes that do so have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use logship::log_group::log_groups;
use logship::ndjson::{Parser, Settings};
use logship_bench::line;
use logship_logstore::{LogstoreSettings, NewGroup, Options, Store};
use logship_sls::compression::Compression;
use logship_sls::log_group::LogGroupView;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Logs of a log group: some 100 KB.
const GROUP: u64 = 400;

/// Where its data are.
pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Makes a Logstore `ship` of the project `bench`, with so many bytes of logs before compression.
pub(crate) fn fill(folder: &Path, shards: u32, most: usize) {
    let data = data(folder);
    let _ = fs::remove_dir_all(&data);
    let store = Store::open(&data, Options { shards, ..Options::default() }).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let settings = LogstoreSettings { ttl: 1, settings: serde_json::Value::Null };
    runtime.block_on(store.create_project("bench", "")).expect("a project");
    runtime.block_on(store.create_logstore("bench", "ship", shards, &settings)).expect("a logstore");
    let catalog = store.catalog();
    let logstore = catalog.logstore("bench", "ship").expect("a logstore");
    // As many groups as there are, again and again.
    let groups: Vec<NewGroup> = (0..100).map(group).collect();
    let (mut bytes, mut number) = (0, 0);
    while bytes < most {
        let shard = logstore.shard(number % shards).expect("a shard");
        let group = groups[number as usize % groups.len()].clone();
        bytes += group.size as usize;
        let batch = vec![group];
        // Many at a time share a commit.
        runtime.block_on(store.put(shard, batch)).expect("stored");
        number += 1;
    }
    store.close();
}

fn group(number: u64) -> NewGroup {
    let lines: Vec<String> = (number * GROUP..(number + 1) * GROUP).map(line).collect();
    // One source, for a group has one.
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

/// Runs this program once more; what it prints.
pub(crate) fn run(arguments: &[&str]) -> String {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .output()
        .expect("started");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Has this process run on some cores only.
pub(crate) fn run_on(cores: std::ops::Range<usize>) {
    let mut set = CpuSet::new();
    cores.for_each(|core| set.set(core));
    sched_setaffinity(None, &set).expect("a core");
}

/// The most memory that this process had, in MiB.
pub(crate) fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
