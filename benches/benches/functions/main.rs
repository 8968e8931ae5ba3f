//! Benchmark of a function of `logship function serve`, compared with the host that runs the same stages on the same
//! batches: `cargo xtask bench functions`.
//!
//! Both convert the bytes of a batch to an object, its key and its SHA-256, in alternating rounds in one process. Calls
//! of the function reuse its instance. Standard output is a section of BENCHMARKS.md. `-- reuse` measures the reuse of
//! instances only.

mod function;
mod host;
mod input;
mod reuse;
mod server;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use logship_bench::median;
use logship_config::rule::Stages;
use logship_delivery::pipeline::Task;
use logship_spin_runtime::compose::compose;
use logship_spin_runtime::runtime::Function;
use serde_json::json;

use self::function::{call, load, parts, runtime};
use self::host::{Host, settings_of};
use self::input::InputFormat;
use self::server::Server;

/// The same allocator as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 15;
const SIZES: [(&str, usize); 3] = [("1 KB", 1_000), ("100 KB", 100_000), ("4 MB", 4_000_000)];
const CASES: [(&str, &str, &str); 3] =
    [("JSON, snappy", "json", "snappy"), ("Parquet, snappy", "parquet", "snappy"), ("CSV", "csv", "none")];
const TASK: Task = Task { created: 1_760_000_089_123_456_789, number: 4711, shard: 0 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cold", application, cache] => cold(application.as_ref(), cache.as_ref()),
        ["reuse"] => run_reuse(),
        _ => run_all(),
    }
}

fn run_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench { folder: folder.path(), cache: folder.path().join("cache") };
    println!(
        "### Functions\n\nCalls of `trigger-http` in `logship function serve`, with the object in the response, compared with the host that runs \
         the same stages on the same batches of access logs. MB are those of the request body; medians of {ROUNDS} alternating rounds, one thread.\n"
    );
    bench.cold_starts();
    bench.warm_calls();
    let application = bench.application("json", "snappy");
    reuse::keep_alive(&application, &bench.cache);
    reuse::concurrent(&application, &bench.cache);
    bench.throughput();
    bench.fused();
    bench.sizes();
}

/// Measures the reuse of instances only.
fn run_reuse() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench { folder: folder.path(), cache: folder.path().join("cache") };
    let application = bench.application("json", "snappy");
    reuse::keep_alive(&application, &bench.cache);
    reuse::concurrent(&application, &bench.cache);
}

struct Bench<'a> {
    folder: &'a Path,
    cache: PathBuf,
}

impl Bench<'_> {
    /// Measures the start of a process and its first call, with compiled code in the cache.
    fn cold_starts(&self) {
        let application = self.application("json", "snappy");
        drop(load(&application, &self.cache));
        let (mut loaded, mut first, mut listening, mut answered) = (vec![], vec![], vec![], vec![]);
        let body = InputFormat::Lines.batch(1_000);
        // Round 0 fills the program's cache, which differs by engine settings.
        for round in 0..=ROUNDS {
            let begun = Instant::now();
            let server = Server::start(&application, &self.cache);
            let ready = begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            server.connect().call(&body);
            let answer = begun.elapsed().as_secs_f64();
            let [load, call] = self.cold(&application);
            if round > 0 {
                listening.push(ready);
                answered.push(answer);
                loaded.push(load);
                first.push(call);
            }
        }
        let ms = |times: &[f64]| median(times.to_vec()) * 1e3;
        let both: Vec<f64> = loaded.iter().zip(&first).map(|(load, call)| load + call).collect();
        println!("| cold start, JSON, snappy, 1 KB | ms |\n|---|---:|");
        println!(
            "| first call of a process: instantiation to first byte of the response | {:.2} |",
            ms(&first)
        );
        println!("| load of the compiled function and stages from the cache | {:.2} |", ms(&loaded));
        println!("| both | {:.2} |", ms(&both));
        println!("| process start until it listens, including the load | {:.1} |", ms(&listening));
        println!("| first call over HTTP | {:.2} |\n", ms(&answered));
    }

    /// Runs a cold start in a new process. Returns the seconds to load, and of the first call.
    fn cold(&self, application: &Path) -> [f64; 2] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let output = command.arg("cold").arg(application).arg(&self.cache).output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("text");
        let figures: Vec<f64> =
            printed.split_whitespace().map(|figure| figure.parse().expect("a number")).collect();
        figures.try_into().expect("two figures")
    }

    /// Measures warm calls with each batch size.
    fn warm_calls(&self) {
        println!(
            "| warm call, JSON, snappy | host, ms | function, ms | overhead, ms | over HTTP on loopback, ms |"
        );
        println!("|---|---:|---:|---:|---:|");
        let case = self.case("json", "snappy");
        let server = Server::start(&self.application("json", "snappy"), &self.cache);
        let mut client = server.connect();
        for (name, size) in SIZES {
            let body = InputFormat::Lines.batch(size);
            // Enough calls per round to take some milliseconds.
            let calls = (2_000_000 / size).clamp(1, 500);
            let [mut host, mut function, mut http] = [vec![], vec![], vec![]];
            for _ in 0..ROUNDS {
                host.push(seconds(calls, || drop(black_box(case.host.build(&body, InputFormat::Lines)))));
                function.push(seconds(calls, || drop(black_box(case.call(&body, InputFormat::Lines)))));
                http.push(seconds(calls, || {
                    black_box(client.call(&body));
                }));
            }
            let [host, function, http] = [host, function, http].map(|times| median(times) * 1e3);
            println!("| {name} | {host:.2} | {function:.2} | {:.2} | {http:.2} |", function - host);
        }
        println!();
    }

    /// Measures batches of 4 MB in each format.
    fn throughput(&self) {
        println!("| 4 MB batches | host MB/s | function MB/s | function/host |\n|---|---:|---:|---:|");
        for (name, format, compression) in CASES {
            let case = self.case(format, compression);
            for format in [InputFormat::Lines, InputFormat::LogGroup] {
                let body = format.batch(4_000_000);
                let same = case.host.build(&body, format).bytes == case.call(&body, format);
                assert!(same, "{name}: the objects of the function and the host differ");
                let speeds = compare(
                    body.len(),
                    || drop(black_box(case.host.build(&body, format))),
                    || drop(black_box(case.call(&body, format))),
                );
                println!("| {name}, from {} {speeds}", format.name());
            }
        }
        println!();
    }

    /// Compares a fused pipeline component with the host that runs each stage.
    fn fused(&self) {
        println!(
            "| 4 MB batches | separate stages MB/s | fused pipeline MB/s | fused/separate |\n|---|---:|---:|---:|"
        );
        for (name, format, compression) in CASES {
            let fused = self.folder.join(format!("{format}-{compression}.wasm"));
            let mut command = Command::new(program());
            command.args(["compose", "--encoder", &format!("encode-{format}"), "--output"]).arg(&fused);
            // The Parquet encoder compresses by itself.
            if format != "parquet" && compression != "none" {
                command.args(["--compressor", &format!("compress-{compression}")]);
            }
            let output = command.output().expect("started");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let stages = Stages { pipeline: Some(fused.display().to_string()), ..Stages::default() };
            let (host, fused) =
                (Host::new(format, compression, Stages::default()), Host::new(format, compression, stages));
            let body = InputFormat::Lines.batch(4_000_000);
            let build = |host: &Host| host.build(&body, InputFormat::Lines);
            assert!(
                build(&host).bytes == build(&fused).bytes,
                "{name}: the objects of the pipeline and the separate stages differ"
            );
            let speeds =
                compare(body.len(), || drop(black_box(build(&host))), || drop(black_box(build(&fused))));
            println!("| {name} {speeds}");
        }
        println!();
    }

    fn sizes(&self) {
        println!("| component | KiB |\n|---|---:|");
        let kib = |bytes: usize| bytes / 1024;
        for folder in ["components", "functions"] {
            let mut files: Vec<PathBuf> = fs::read_dir(target().join(folder))
                .expect("built")
                .map(|entry| entry.expect("an entry").path())
                .collect();
            files.sort();
            for file in files {
                let name = file.file_stem().expect("a name").to_string_lossy();
                println!("| {name} | {} |", kib(fs::metadata(&file).expect("a file").len() as usize));
            }
        }
        let (_, socket, parts) = parts(&self.application("json", "snappy"));
        let composed = compose(&socket, &parts, |_| false).expect("composed");
        println!("| trigger-http composed with renderer, JSON, snappy and HEC | {} |", kib(composed.len()));
        for (name, format, compression) in CASES {
            let fused = self.folder.join(format!("{format}-{compression}.wasm"));
            let bytes = fs::metadata(fused).expect("made before").len();
            println!("| pipeline: {name} | {} |", kib(bytes as usize));
        }
    }

    fn case(&self, format: &str, compression: &str) -> Case {
        Case {
            host: Host::new(format, compression, Stages::default()),
            function: load(&self.application(format, compression), &self.cache),
            runtime: runtime(),
        }
    }

    /// Writes a spin.toml with one rule.
    fn application(&self, format: &str, compression: &str) -> PathBuf {
        let rules = json!({ "lake": { "format": settings_of(format), "compression": compression } });
        let target = target();
        let target = target.display();
        let compressor = if compression == "none" { "snappy" } else { compression };
        let text = format!(
            r#"
spin_manifest_version = 2
[application]
name = "bench"
[variables]
rules = {{ default = '{rules}' }}
[[trigger.http]]
route = "/v1/ship/:rule"
component = "trigger-http"
[component.trigger-http]
source = "{target}/functions/trigger-http.wasm"
[component.trigger-http.variables]
rules = "{{{{ rules }}}}"
[component.trigger-http.dependencies]
"logship:object-path/renderer" = {{ path = "{target}/components/object-path.wasm" }}
"logship:encode/encoder" = {{ path = "{target}/components/encode-{format}.wasm" }}
"logship:compress/compressor" = {{ path = "{target}/components/compress-{compressor}.wasm" }}
"logship:siem/formatter" = {{ path = "{target}/components/siem-hec.wasm" }}
"#
        );
        let file = self.folder.join(format!("{format}-{compression}.toml"));
        fs::write(&file, text).expect("written");
        file
    }
}

/// Prints the seconds to load a function, and of its first call.
fn cold(application: &Path, cache: &Path) {
    let begun = Instant::now();
    let function = load(application, cache);
    let loaded = begun.elapsed().as_secs_f64();
    let (runtime, body) = (runtime(), InputFormat::Lines.batch(1_000));
    let begun = Instant::now();
    call(&runtime, &function, &body, InputFormat::Lines);
    println!("{loaded} {}", begun.elapsed().as_secs_f64());
}

/// The host and the function for the same object.
struct Case {
    host: Host,
    function: Function,
    runtime: tokio::runtime::Runtime,
}

impl Case {
    fn call(&self, body: &Bytes, format: InputFormat) -> Bytes {
        call(&self.runtime, &self.function, body, format)
    }
}

/// Returns the folder of `cargo xtask build`.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    program.ancestors().nth(3).expect("it is in TARGET/release/deps").to_owned()
}

fn program() -> PathBuf {
    target().join("release/logship")
}

/// Measures both in alternating rounds. Returns table cells with both speeds in MB/s, and the ratio.
fn compare(bytes: usize, first: impl Fn(), second: impl Fn()) -> String {
    let (mut first_speeds, mut second_speeds, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (first_time, second_time) = (seconds(3, &first), seconds(3, &second));
        first_speeds.push(bytes as f64 / first_time / 1e6);
        second_speeds.push(bytes as f64 / second_time / 1e6);
        ratios.push(first_time / second_time);
    }
    format!("| {:.0} | {:.0} | {:.2} |", median(first_speeds), median(second_speeds), median(ratios))
}

/// Returns the mean seconds of a call, over `calls` calls.
fn seconds(calls: usize, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..calls).for_each(|_| work());
    begun.elapsed().as_secs_f64() / calls as f64
}
