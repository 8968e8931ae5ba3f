//! Benchmark of sending a Logstore to a local receiver that discards all data: speed on one core, and CPU time.
//!
//! Each case runs in a separate process on the first core, and its receiver in another on the second. The CPU time of
//! the sender is the main figure, as it doesn't depend on the receiver.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, thread};

use logship_bench::median;
use logship_config::receiver::ReceiverConfig;
use logship_config::shipping::Shipping;
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_delivery::dead_letter::DeadLetters;
use logship_delivery::engine::DeliveryEngine;
use logship_delivery::engine::work::RuleSpec;
use logship_delivery::events::Events;
use logship_logstore::{Options, RuleSettings, RuleStart, Status, Store, TaskFilter};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits, default_cache};
use logship_sink::directory::Directory;

use bench_logstore::{data, fill, peak_memory, run, run_on};

#[path = "../bench_logstore.rs"]
mod bench_logstore;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Size of the logs that each case sends, in bytes before compression.
const BYTES: usize = 500_000_000;

const ROUNDS: usize = 3;

/// The cases: name, kind of receiver, and receiver config with the placeholder PORT.
const CASES: [(&str, &str, &str); 4] = [
    ("HEC", "hec", r#"{ "type": "hec", "token": "t", "gzip": false, "urls": ["http://127.0.0.1:PORT"] }"#),
    ("HEC, gzip", "hec", r#"{ "type": "hec", "token": "t", "urls": ["http://127.0.0.1:PORT"] }"#),
    ("syslog, TCP", "syslog", r#"{ "type": "syslog", "host": "127.0.0.1", "port": PORT }"#),
    (
        "syslog, TCP, `confirm = \"sent\"`",
        "syslog",
        r#"{ "type": "syslog", "host": "127.0.0.1", "port": PORT, "confirm": "sent" }"#,
    ),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["receive", kind] => receive(kind),
        ["send", folder, case, port] => send(Path::new(folder), case.parse().expect("a number"), port),
        _ => all(),
    }
}

fn all() {
    let folder =
        tempfile::tempdir_in(env::var_os("LOGSHIP_BENCH_DIR").unwrap_or_else(|| env::temp_dir().into()))
            .expect("a folder");
    println!("### SIEM\n");
    println!(
        "A Logstore of {} MB of logs (before compression, as log groups) in 4 shards by a rule of the service to a \
         receiver on this machine that discards all data, with tasks stored on disk. MB are those of the logs. The sender has one core; \
         the second figure is the speed by its CPU time, without waits. Medians of {ROUNDS} rounds.\n",
        BYTES / 1_000_000
    );
    println!("| | MB/s | MB per CPU second | logs/s | memory, MiB |\n|---|---:|---:|---:|---:|");
    fill(folder.path(), 4, BYTES);
    let folder = folder.path().to_str().expect("a plain path");
    for (index, (name, kind, _)) in CASES.iter().enumerate() {
        let mut rounds: [Vec<f64>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let (mut receiver, port) = start(kind);
            let printed = run(&["send", folder, &index.to_string(), &port]);
            receiver.kill().and_then(|()| receiver.wait()).expect("ended");
            let figures = printed.split_whitespace().map(|figure| figure.parse::<f64>().expect("a number"));
            rounds.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
        }
        let [wall, cpu, logs, memory] = rounds.map(median);
        println!("| {name} | {wall:.0} | {cpu:.0} | {logs:.0} | {memory:.0} |");
    }
    println!();
}

/// Starts a receiver process, and returns it with its port.
fn start(kind: &str) -> (Child, String) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    let mut child = command.args(["receive", kind]).stdout(Stdio::piped()).spawn().expect("started");
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut port).expect("a port");
    (child, port.trim().to_owned())
}

fn receive(kind: &str) {
    run_on(1..2);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("bound").port());
    let serve = match kind {
        "hec" => accept_hec,
        _ => discard,
    };
    for stream in listener.incoming().map_while(Result::ok) {
        thread::spawn(move || serve(stream));
    }
}

fn discard(mut stream: TcpStream) -> Option<()> {
    let mut buffer = vec![0; 1 << 20];
    while stream.read(&mut buffer).ok()? > 0 {}
    Some(())
}

/// Answers every HEC request with success.
fn accept_hec(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::with_capacity(1 << 20, stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        // In one write, as two would wait for a delayed TCP acknowledgement.
        writer
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"text\":\"Success\",\"code\":0}")
            .ok()?;
    }
}

/// Sends all logs by a new rule. Prints MB/s, MB per CPU second, logs per second and the peak memory.
fn send(folder: &Path, case: usize, port: &str) {
    run_on(0..1);
    let data = data(folder);
    let store = Arc::new(Store::open(&data, Options::default()).expect("a store"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let receiver: ReceiverConfig =
        serde_json::from_str(&CASES[case].2.replace("PORT", port)).expect("a receiver");
    let engine = Engine::new(Limits::default(), default_cache().as_deref()).expect("an engine");
    let letters = DeadLetters::new(Box::new(Directory::new(folder.join("dead-letters"))), "");
    let registry = Registry::with_folder(engine, data.join("stages"));
    let receivers = BTreeMap::from([("receiver".to_owned(), receiver)]);
    let events = Events::new(registry.clone(), receivers, letters, 3);
    let handle = runtime.handle().clone();
    let delivery =
        DeliveryEngine::new(Arc::clone(&store), registry, Shipping::default(), handle).with_streams(events);
    let catalog = store.catalog();
    let logstore = catalog.logstore("bench", "ship").expect("a logstore");
    let raw: u64 = logstore
        .shards
        .iter()
        .map(|shard| store.backlog(shard, shard.begin(), u64::MAX >> 1).expect("measured").bytes)
        .sum();
    let name = format!("bench-{}", fastrand::u32(..));
    let rule = SiemRule { name: name.clone(), receiver: "receiver".into(), ..SiemRule::default() };
    let configuration = &rule.configuration();
    let spec = RuleSpec { project: "bench", logstore: "ship", name: &name, configuration };
    delivery.check(SIEM, spec).expect("a rule");
    let settings = RuleSettings { target: SIEM.into(), configuration: rule.configuration() };
    runtime.block_on(store.create_rule(logstore, &name, settings, RuleStart::Begin)).expect("a rule");
    let catalog = store.catalog();
    let rule = catalog.logstore("bench", "ship").and_then(|logstore| logstore.rule(&name)).expect("the rule");
    let (begun, used) = (Instant::now(), cpu_seconds());
    let running = Arc::new(delivery).start();
    let is_done = || {
        let progress = store.progress(rule).expect("progress");
        logstore.shards.iter().all(|shard| {
            progress.get(&shard.number).is_some_and(|progress| progress.checkpoint.cursor == shard.end())
        })
    };
    while !is_done() {
        thread::sleep(Duration::from_millis(5));
    }
    let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu_seconds() - used);
    runtime.block_on(running.end());
    let filter = TaskFilter { rule: Some(name), ..TaskFilter::default() };
    let (tasks, _) = store.tasks(&filter, 0, 100_000).expect("tasks");
    assert!(tasks.iter().all(|task| task.status == Status::Success));
    let logs: u64 =
        tasks.iter().filter_map(|task| task.manifest.as_ref()).map(|manifest| manifest.rows).sum();
    let megabytes = raw as f64 / 1e6;
    println!("{} {} {} {}", megabytes / seconds, megabytes / used, logs as f64 / seconds, peak_memory());
}

/// Returns the CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
