//! Benchmark of a function of `logship function serve`, compared with the host that runs the same stages on the same
//! batches: `cargo xtask bench functions`.
//!
//! Both convert the bytes of a batch to an object, its key and its SHA-256, in alternating rounds in one process. Calls
//! of the function reuse its instance. Standard output is a section of BENCHMARKS.md. `-- reuse` measures the reuse of
//! instances only.

#[path = "functions/reuse.rs"]
mod reuse;

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use logship::function_stages::Stages as Linked;
use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_batch::log_group::log_groups;
use logship_batch::parser::{Parser, Settings};
use logship_bench::{line, median};
use logship_config::rule::{Rule, StageSpec, Stages};
use logship_delivery::pipeline::{Pipeline, Task};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits as StageLimits};
use logship_spin_runtime::application;
use logship_spin_runtime::compose::{ComponentFile, compose};
use logship_spin_runtime::manifest::Manifest;
use logship_spin_runtime::runtime::{Function, Limits, Runtime};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

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

fn call(runtime: &tokio::runtime::Runtime, function: &Function, body: &Bytes, format: InputFormat) -> Bytes {
    let request = http::Request::post("http://localhost/v1/ship/lake")
        .header("content-type", format.media_type())
        .header("content-length", body.len())
        .header("x-logship-task", format!("{}_{}", TASK.created, TASK.number))
        .header("x-logship-digest", "xxh3")
        .body(Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync())
        .expect("a request");
    let response = runtime.block_on(function.handle_request(request)).expect("a response");
    assert_eq!(response.status(), 200);
    let object = runtime.block_on(response.into_body().collect()).expect("a body").to_bytes();
    // A service hashes the objects of function calls too.
    black_box(Sha256::digest(&object));
    object
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The host, which runs the stages.
struct Host {
    pipeline: Pipeline,
}

/// The host's object of a batch.
struct Object {
    _key: String,
    bytes: Vec<u8>,
    _sha256: [u8; 32],
}

impl Host {
    fn new(format: &str, compression: &str, stages: Stages) -> Self {
        let registry = Registry::new(Engine::new(StageLimits::default(), None).expect("an engine"));
        let format: StageSpec = serde_json::from_value(settings_of(format)).expect("a format");
        let compression: StageSpec = serde_json::from_value(json!(compression)).expect("a compression");
        let rule = Rule { name: "lake".into(), format, compression, stages, ..Rule::default() };
        Self { pipeline: Pipeline::new(&registry, &rule).expect("a pipeline") }
    }

    fn build(&self, body: &[u8], format: InputFormat) -> Object {
        let _key = self.pipeline.key(&TASK).expect("a key");
        let mut encoding = self.pipeline.open().expect("opened");
        let mut bytes = vec![];
        format.batches(body, |batch| bytes.append(&mut encoding.push(batch).expect("encoded")));
        let mut ending = encoding.finish().expect("finished").ending;
        bytes.append(&mut ending.trailer);
        bytes.splice(..0, ending.header);
        let _sha256 = Sha256::digest(&bytes).into();
        Object { _key, bytes, _sha256 }
    }
}

/// The input format of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputFormat {
    Lines,
    LogGroup,
}

impl InputFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Lines => "NDJSON",
            Self::LogGroup => "a LogGroup",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::LogGroup => "application/x-protobuf",
        }
    }

    /// Returns a batch of at least `bytes` of lines, or a log group with the same logs.
    fn batch(self, bytes: usize) -> Bytes {
        let mut lines = String::new();
        for number in 0.. {
            lines.push_str(&line(number));
            lines.push('\n');
            if lines.len() >= bytes {
                break;
            }
        }
        if self == Self::Lines {
            return lines.into();
        }
        // A log group has only one source.
        let lines = lines.replace(r#""__source__":"10.0.3."#, r#""__source__":"10.0.3.1","host_number":""#);
        let parsed = Parser::new(settings()).parse(lines.as_bytes());
        log_groups(&parsed.batches[0].1, "").remove(0).into()
    }

    /// Parses the body to batches as the host passes them to stages.
    fn batches(self, body: &[u8], mut visit: impl FnMut(&LogBatch)) {
        if self == Self::LogGroup {
            let mut builder = BatchBuilder::default();
            builder.log_group(body).expect("a log group");
            return visit(&builder.take());
        }
        let (mut parser, mut rest) = (Parser::new(settings()), body);
        while !rest.is_empty() {
            let block_end = rest.len().min(512 << 10);
            let end = rest[block_end..].iter().position(|&byte| byte == b'\n');
            let (block, after) = rest.split_at(end.map_or(rest.len(), |end| block_end + end + 1));
            parser.parse(block).batches.iter().for_each(|(_, batch)| visit(batch));
            rest = after;
        }
    }
}

fn settings() -> Settings {
    Settings { time_field: None, default_time: (0, 0), shards: 1, shard_field: String::new() }
}

fn settings_of(format: &str) -> Value {
    const NUMBERS: [(&str, &str); 4] =
        [("__time__", "int64"), ("status", "int32"), ("bytes", "int64"), ("latency", "double")];
    const TEXTS: [&str; 9] = [
        "__topic__",
        "__source__",
        "method",
        "path",
        "host",
        "client_ip",
        "referer",
        "user_agent",
        "request_id",
    ];
    let columns = match format {
        "json" => return json!({ "type": format }),
        "csv" => NUMBERS.map(|(key, _)| json!(key)).into_iter().chain(TEXTS.map(|key| json!(key))).collect(),
        _ => NUMBERS
            .map(|(key, number)| json!({ "key": key, "type": number }))
            .into_iter()
            .chain(TEXTS.map(|key| json!({ "key": key })))
            .collect::<Vec<_>>(),
    };
    json!({ "type": format, "columns": columns })
}

/// Returns the folder of `cargo xtask build`.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    program.ancestors().nth(3).expect("it is in TARGET/release/deps").to_owned()
}

fn program() -> PathBuf {
    target().join("release/logship")
}

/// Loads an application's function like the program.
fn load(application: &Path, cache: &Path) -> Function {
    let (variables, socket, parts) = parts(application);
    fs::create_dir_all(cache).expect("a folder");
    let runtime = Runtime::new(Limits::default(), Some(cache)).expect("a runtime");
    let engine = Engine::new(StageLimits::default(), Some(&cache.join("stages"))).expect("an engine");
    let stages = Linked::new(Registry::new(engine));
    application::function(&runtime, &socket, parts, &stages, variables, vec![]).expect("a function")
}

type Variables = std::collections::BTreeMap<String, String>;

fn parts(application: &Path) -> (Variables, ComponentFile, Vec<(String, ComponentFile)>) {
    let manifest = Manifest::read(application).expect("an application");
    let component = &manifest.component["trigger-http"];
    let part = |path: &Path| ComponentFile::read(&manifest.resolve(path)).expect("a component");
    let dependencies = component.dependencies.iter();
    let parts = dependencies.map(|(import, dependency)| (import.clone(), part(&dependency.path))).collect();
    (manifest.variables(component, |_| None).expect("variables"), part(&component.source), parts)
}

/// A process of `logship function serve`.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(application: &Path, cache: &Path) -> Self {
        Self::start_with(application, cache, &[])
    }

    fn start_with(application: &Path, cache: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["function", "serve", "--listen", "127.0.0.1:0"]).args(options).arg(application);
        command.arg("--cache").arg(cache.join("program"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
        Self { process, address }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_nodelay(true).expect("a socket");
        Client { reader: BufReader::with_capacity(1 << 20, stream.try_clone().expect("a socket")), stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("ended");
    }
}

/// A keep-alive connection.
struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Client {
    fn call(&mut self, body: &[u8]) -> usize {
        let head = format!(
            "POST /v1/ship/lake HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             x-logship-task: {}_{}\r\nContent-Length: {}\r\n\r\n",
            TASK.created,
            TASK.number,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).and_then(|()| self.stream.write_all(body)).expect("sent");
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a response");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.reader.read_line(&mut line).expect("a header");
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).expect("a body");
        body.len()
    }
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
