//! The reuse of instances: latency of answers as Spin sends them, and throughput and memory of concurrent calls.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;

use crate::input::InputFormat;
use crate::server::Server;

/// Calls on a connection. Half of them come before the measurement.
const CALLS: usize = 2_000;

/// Concurrent calls, and rounds of them.
const CLIENTS: usize = 16;
const ROUNDS: usize = 4;

/// Measures calls of 1 KB on one connection, through a socket without TCP_NODELAY.
pub(crate) fn keep_alive(application: &Path, cache: &Path) {
    println!("| call of 1 KB on keep-alive | median, ms | p95, ms | p99, ms |\n|---|---:|---:|---:|");
    let body = InputFormat::Lines.batch(1_000);
    for (name, options) in
        [("with TCP_NODELAY", &[][..]), ("as Spin sends, without it", &["--send-like-spin"][..])]
    {
        let server = Server::start_with(application, cache, options);
        let mut client = server.connect();
        let mut times: Vec<f64> = (0..CALLS)
            .map(|_| {
                let begun = Instant::now();
                client.call(&body);
                begun.elapsed().as_secs_f64() * 1e3
            })
            .skip(CALLS / 2)
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[(times.len() as f64 * part) as usize];
        println!("| {name} | {:.2} | {:.2} | {:.2} |", at(0.5), at(0.95), at(0.99));
    }
    println!();
}

/// Measures concurrent calls of 4 MB, with and without the reuse of instances.
pub(crate) fn concurrent(application: &Path, cache: &Path) {
    println!("| {CLIENTS} concurrent calls of 4 MB | MB/s | peak memory, MiB |\n|---|---:|---:|");
    let body = InputFormat::Lines.batch(4_000_000);
    for (name, options) in [
        ("128 calls of an instance, 16 at a time", &[][..]),
        ("128 calls of an instance, one at a time", &["--max-instance-concurrent-reuse-count", "1"][..]),
        ("each call its own instance", &["--max-instance-reuse-count", "1"][..]),
    ] {
        let server = Server::start_with(application, cache, options);
        calls(&server, &body, 1);
        let begun = Instant::now();
        calls(&server, &body, ROUNDS);
        let megabytes = (CLIENTS * ROUNDS * body.len()) as f64 / 1e6;
        println!(
            "| {name} | {:.0} | {:.0} |",
            megabytes / begun.elapsed().as_secs_f64(),
            peak_memory(server.process.id())
        );
    }
    println!();
}

fn calls(server: &Server, body: &Bytes, rounds: usize) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.connect();
                for _ in 0..rounds {
                    client.call(body);
                }
            });
        }
    });
}

/// Returns the peak of a process's resident memory, in MiB.
fn peak_memory(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") / 1024.0
}
