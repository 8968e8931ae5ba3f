//! Benchmark of shipping a Logstore to a local directory: speed on one and two cores, memory, and number of shards.
//!
//! Each case runs in a separate process, which reports its peak memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use logship_bench::median;
use logship_config::destination::DestinationConfig;
use logship_config::rule::Rule;
use logship_config::shipper_config;
use logship_config::shipping::Shipping;
use logship_delivery::engine::DeliveryEngine;
use logship_delivery::objects::Objects;
use logship_logstore::{Options, RuleSettings, RuleStart, Status, Store, TaskFilter};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits, default_cache};

use bench_logstore::{data, fill, peak_memory, run, run_on};

#[path = "../bench_logstore.rs"]
mod bench_logstore;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Size of the logs that each case ships, in bytes before compression.
const BYTES: usize = 1_000_000_000;

const ROUNDS: usize = 3;

const FORMATS: [(&str, &str); 2] = [
    ("JSON + snappy", r#"{ "type": "json" }"#),
    (
        "Parquet + snappy",
        r#"{ "type": "parquet", "columns": [
            { "key": "__time__", "type": "int64" }, { "key": "__source__" }, { "key": "method" }, { "key": "path" },
            { "key": "status", "type": "int32" }, { "key": "bytes", "type": "int64" },
            { "key": "latency", "type": "double" }, { "key": "host" }, { "key": "client_ip" }, { "key": "referer" },
            { "key": "user_agent" }, { "key": "request_id" }] }"#,
    ),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["fill", folder, shards] => fill(Path::new(folder), shards.parse().expect("a number"), BYTES),
        ["ship", folder, format, cores] => {
            ship(Path::new(folder), format.parse().expect("a number"), cores.parse().expect("a number"));
        }
        _ => all(),
    }
}

fn all() {
    let folder =
        tempfile::tempdir_in(env::var_os("LOGSHIP_BENCH_DIR").unwrap_or_else(|| env::temp_dir().into()))
            .expect("a folder");
    println!("### Shipping\n");
    println!(
        "A Logstore of {} MB of logs (before compression, as log groups) to objects of at most 64 MB in a local \
         directory, each on disk before its task succeeds. Medians of {ROUNDS} rounds; memory is the process's peak.\n",
        BYTES / 1_000_000
    );
    println!("| 8 shards | 1 core, MB/s | 2 cores, MB/s | memory, MiB |\n|---|---|---|---|");
    run(&["fill", path(folder.path()), "8"]);
    for (index, (name, _)) in FORMATS.iter().enumerate() {
        let mut figures = [vec![], vec![]];
        let mut peak = 0.0_f64;
        for _ in 0..ROUNDS {
            for (cores, figures) in (1..).zip(&mut figures) {
                let (speed, memory) = run_case(folder.path(), index, cores);
                figures.push(speed);
                peak = peak.max(memory);
            }
        }
        let [one, two] = figures.map(median);
        println!("| {name} | {one:.0} | {two:.0} | {peak:.0} |");
    }
    println!("\n| shards, 2 cores | JSON + snappy, MB/s | memory, MiB |\n|---|---|---|");
    for shards in ["1", "8", "64", "500"] {
        run(&["fill", path(folder.path()), shards]);
        let rounds: Vec<_> = (0..ROUNDS).map(|_| run_case(folder.path(), 0, 2)).collect();
        let peak = rounds.iter().map(|round| round.1).fold(0.0, f64::max);
        println!("| {shards} | {:.0} | {peak:.0} |", median(rounds.iter().map(|round| round.0).collect()));
    }
    println!();
}

fn path(folder: &Path) -> &str {
    folder.to_str().expect("a plain path")
}

/// Runs a case. Returns the speed in MB/s and the memory in MiB.
fn run_case(folder: &Path, format: usize, cores: usize) -> (f64, f64) {
    let printed = run(&["ship", path(folder), &format.to_string(), &cores.to_string()]);
    let mut numbers = printed.split_whitespace().map(|number| number.parse::<f64>().expect("a number"));
    (numbers.next().expect("a speed"), numbers.next().expect("a size"))
}

/// Ships all logs by a new rule, on the given number of cores. Prints the speed and the peak memory.
fn ship(folder: &Path, format: usize, cores: usize) {
    run_on(0..cores);
    let data = data(folder);
    let store = Arc::new(Store::open(&data, Options::default()).expect("a store"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let settings = Shipping { workers: cores, longest_wait_seconds: 1, ..Shipping::default() };
    let engine = Engine::new(
        Limits { memory: settings.stage_memory(), ..Limits::default() },
        default_cache().as_deref(),
    );
    let buckets = folder.join("buckets");
    let number = fastrand::u32(..);
    let name = format!("bench-{number}");
    fs::create_dir_all(buckets.join(&name)).expect("a bucket");
    let registry = Registry::with_folder(engine.expect("an engine"), data.join("stages"));
    let destinations =
        BTreeMap::from([("default".to_owned(), DestinationConfig::Directory { path: buckets.clone() })]);
    let handle = runtime.handle().clone();
    let objects = Objects::new(registry.clone(), destinations, &settings, &data, handle.clone());
    let delivery = DeliveryEngine::new(Arc::clone(&store), registry, settings, handle)
        .with_batches(objects.expect("objects"));
    let catalog = store.catalog();
    let logstore = catalog.logstore("bench", "ship").expect("a logstore");
    let raw: usize = logstore
        .shards
        .iter()
        .map(|shard| store.backlog(shard, shard.begin(), u64::MAX >> 1).expect("measured").bytes as usize)
        .sum();
    let rule = Rule {
        name: name.clone(),
        bucket: name.clone(),
        size_mb: 64,
        format: serde_json::from_str(FORMATS[format].1).expect("a format"),
        compression: logship_config::rule::StageSpec::named("snappy"),
        ..Rule::default()
    };
    let configuration = shipper_config::from_rule(&rule);
    let settings = RuleSettings { target: shipper_config::OSS.into(), configuration };
    runtime.block_on(store.create_rule(logstore, &name, settings, RuleStart::Begin)).expect("a rule");
    let catalog = store.catalog();
    let rule = catalog.logstore("bench", "ship").and_then(|logstore| logstore.rule(&name)).expect("the rule");
    let begun = Instant::now();
    let running = Arc::new(delivery).start();
    let is_done = || {
        let progress = store.progress(rule).expect("progress");
        let at_end = |shard: &Arc<logship_logstore::Shard>| {
            progress.get(&shard.number).is_some_and(|progress| progress.checkpoint.cursor == shard.end())
        };
        logstore.shards.iter().all(at_end)
    };
    while !is_done() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let seconds = begun.elapsed().as_secs_f64();
    runtime.block_on(running.end());
    let filter = TaskFilter { rule: Some(name.clone()), ..TaskFilter::default() };
    let (tasks, _) = store.tasks(&filter, 0, 100_000).expect("tasks");
    assert!(tasks.iter().all(|task| task.status == Status::Success));
    let _ = fs::remove_dir_all(buckets.join(&name));
    println!("{} {}", raw as f64 / seconds / 1e6, peak_memory());
}
