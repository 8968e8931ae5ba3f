//! Stages in a function of `logship function serve` against the host that drives the same stages on the same batches:
//! `cargo xtask bench functions`.
//!
//! Both are given the bytes of a batch, and make the object, its key and its SHA-256 of them, in turns and in one
//! process. The function has an instance of its own for each call. Standard output is a section for BENCHMARKS.md.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use logship::batch::{BatchBuilder, LogBatch};
use logship::engine::{Engine, Limits as StageLimits};
use logship::link::Stages as Linked;
use logship::log_group::log_groups;
use logship::ndjson::{Parser, Settings};
use logship::pipeline::{Pipeline, Task};
use logship::registry::Registry;
use logship::rule::{Choice, Rule, Stages};
use logship_bench::{line, median};
use logship_function::application;
use logship_function::compose::{Part, compose};
use logship_function::manifest::Manifest;
use logship_function::runtime::{Function, Limits, Runtime};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// As the program has it.
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
        _ => all(),
    }
}

fn all() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench { folder: folder.path(), cache: folder.path().join("cache") };
    println!(
        "### Functions\n\nCalls of `trigger-http` under `logship function serve`, the object in the answer, against the host that drives \
         the same stages on the same batches of access logs. MB are those of the batch as it comes; medians of {ROUNDS} rounds in turns, one thread.\n"
    );
    bench.starts();
    bench.calls();
    bench.throughput();
    bench.fused();
    bench.sizes();
}

struct Bench<'a> {
    folder: &'a Path,
    cache: PathBuf,
}

impl Bench<'_> {
    /// The beginning of a process, and its first call; what is compiled is in the cache.
    fn starts(&self) {
        let application = self.application("json", "snappy");
        drop(load(&application, &self.cache));
        let (mut loaded, mut first, mut listening, mut answered) = (vec![], vec![], vec![], vec![]);
        let body = Form::Lines.batch(1_000);
        // The program has a cache of its own engines' settings: the first round fills it.
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
        println!("| first call of a process: instance to first byte of the answer | {:.2} |", ms(&first));
        println!("| compiled code of the function and its stages from the cache | {:.2} |", ms(&loaded));
        println!("| both | {:.2} |", ms(&both));
        println!("| the process until it listens, that included | {:.1} |", ms(&listening));
        println!("| its first call by HTTP | {:.2} |\n", ms(&answered));
    }

    /// Runs this program once more, for what only a new process shows: seconds to load, and to answer the first call.
    fn cold(&self, application: &Path) -> [f64; 2] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let output = command.arg("cold").arg(application).arg(&self.cache).output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("text");
        let figures: Vec<f64> =
            printed.split_whitespace().map(|figure| figure.parse().expect("a number")).collect();
        figures.try_into().expect("two figures")
    }

    /// Warm calls of each size.
    fn calls(&self) {
        println!(
            "| warm call, JSON, snappy | host, ms | function, ms | more than the host, ms | by HTTP on loopback, ms |"
        );
        println!("|---|---:|---:|---:|---:|");
        let case = self.case("json", "snappy");
        let server = Server::start(&self.application("json", "snappy"), &self.cache);
        let mut client = server.connect();
        for (name, size) in SIZES {
            let body = Form::Lines.batch(size);
            // Calls of a round: as many as take some milliseconds.
            let calls = (2_000_000 / size).clamp(1, 500);
            let [mut host, mut function, mut http] = [vec![], vec![], vec![]];
            for _ in 0..ROUNDS {
                host.push(seconds(calls, || drop(black_box(case.host.make(&body, Form::Lines)))));
                function.push(seconds(calls, || drop(black_box(case.call(&body, Form::Lines)))));
                http.push(seconds(calls, || {
                    black_box(client.call(&body));
                }));
            }
            let [host, function, http] = [host, function, http].map(|times| median(times) * 1e3);
            println!("| {name} | {host:.2} | {function:.2} | {:.2} | {http:.2} |", function - host);
        }
        println!();
    }

    /// Batches of 4 MB in each format.
    fn throughput(&self) {
        println!("| 4 MB batches | host MB/s | function MB/s | function/host |\n|---|---:|---:|---:|");
        for (name, format, compression) in CASES {
            let case = self.case(format, compression);
            for form in [Form::Lines, Form::LogGroup] {
                let body = form.batch(4_000_000);
                let same = case.host.make(&body, form).bytes == case.call(&body, form);
                assert!(same, "{name}: the function makes another object than the host");
                let speeds = compare(
                    body.len(),
                    || drop(black_box(case.host.make(&body, form))),
                    || drop(black_box(case.call(&body, form))),
                );
                println!("| {name}, from {} {speeds}", form.name());
            }
        }
        println!();
    }

    /// A pipeline of stages in one component against the host that drives each of them.
    fn fused(&self) {
        println!(
            "| 4 MB batches | stages by the host MB/s | fused pipeline MB/s | fused/host |\n|---|---:|---:|---:|"
        );
        for (name, format, compression) in CASES {
            let fused = self.folder.join(format!("{format}-{compression}.wasm"));
            let mut command = Command::new(program());
            command.args(["compose", "--encoder", &format!("encode-{format}"), "--output"]).arg(&fused);
            // Parquet is compressed by its encoder.
            if format != "parquet" && compression != "none" {
                command.args(["--compressor", &format!("compress-{compression}")]);
            }
            let output = command.output().expect("started");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let stages = Stages { pipeline: Some(fused.display().to_string()), ..Stages::default() };
            let (host, fused) =
                (Host::new(format, compression, Stages::default()), Host::new(format, compression, stages));
            let body = Form::Lines.batch(4_000_000);
            let make = |host: &Host| host.make(&body, Form::Lines);
            assert!(make(&host).bytes == make(&fused).bytes, "{name}: the pipeline makes another object");
            let speeds =
                compare(body.len(), || drop(black_box(make(&host))), || drop(black_box(make(&fused))));
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
        let whole = compose(&socket, &parts, |_| false).expect("composed");
        println!("| trigger-http composed with renderer, JSON, snappy and HEC | {} |", kib(whole.len()));
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

    /// A spin.toml with one rule.
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

/// Prints how long it takes to load a function, and to answer its first call, in seconds.
fn cold(application: &Path, cache: &Path) {
    let begun = Instant::now();
    let function = load(application, cache);
    let loaded = begun.elapsed().as_secs_f64();
    let (runtime, body) = (runtime(), Form::Lines.batch(1_000));
    let begun = Instant::now();
    call(&runtime, &function, &body, Form::Lines);
    println!("{loaded} {}", begun.elapsed().as_secs_f64());
}

/// Both ways of making the same object.
struct Case {
    host: Host,
    function: Function,
    runtime: tokio::runtime::Runtime,
}

impl Case {
    fn call(&self, body: &Bytes, form: Form) -> Bytes {
        call(&self.runtime, &self.function, body, form)
    }
}

fn call(runtime: &tokio::runtime::Runtime, function: &Function, body: &Bytes, form: Form) -> Bytes {
    let request = http::Request::post("http://localhost/v1/ship/lake")
        .header("content-type", form.media_type())
        .header("content-length", body.len())
        .header("x-logship-task", format!("{}_{}", TASK.created, TASK.number))
        .header("x-logship-digest", "xxh3")
        .body(Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync())
        .expect("a request");
    let answer = runtime.block_on(function.answer(request)).expect("an answer");
    assert_eq!(answer.status(), 200);
    let object = runtime.block_on(answer.into_body().collect()).expect("a body").to_bytes();
    // As a service does, whose calls are these.
    black_box(Sha256::digest(&object));
    object
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The host that drives stages.
struct Host {
    pipeline: Pipeline,
}

/// What the host makes of a batch: what it keeps of an object.
struct Made {
    _key: String,
    bytes: Vec<u8>,
    _sha256: [u8; 32],
}

impl Host {
    fn new(format: &str, compression: &str, stages: Stages) -> Self {
        let registry = Registry::new(Engine::new(StageLimits::default(), None).expect("an engine"));
        let format: Choice = serde_json::from_value(settings_of(format)).expect("a format");
        let compression: Choice = serde_json::from_value(json!(compression)).expect("a compression");
        let rule = Rule { name: "lake".into(), format, compression, stages, ..Rule::default() };
        Self { pipeline: Pipeline::new(&registry, &rule).expect("a pipeline") }
    }

    fn make(&self, body: &[u8], form: Form) -> Made {
        let _key = self.pipeline.key(&TASK).expect("a key");
        let mut encoding = self.pipeline.open().expect("opened");
        let mut bytes = vec![];
        form.batches(body, |batch| bytes.append(&mut encoding.push(batch).expect("encoded")));
        let mut ending = encoding.finish().expect("finished").ending;
        bytes.append(&mut ending.trailer);
        bytes.splice(..0, ending.header);
        let _sha256 = Sha256::digest(&bytes).into();
        Made { _key, bytes, _sha256 }
    }
}

/// What a batch comes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    LogGroup,
}

impl Form {
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

    /// A batch of so many bytes of lines, or of the log group of as many lines.
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
        // One source, for a group has one.
        let lines = lines.replace(r#""__source__":"10.0.3."#, r#""__source__":"10.0.3.1","host_number":""#);
        let parsed = Parser::new(settings()).parse(lines.as_bytes());
        log_groups(&parsed.batches[0].1, "").remove(0).into()
    }

    /// The batches as the host gives them to stages.
    fn batches(self, body: &[u8], mut take: impl FnMut(&LogBatch)) {
        if self == Self::LogGroup {
            let mut builder = BatchBuilder::default();
            builder.log_group(body).expect("a log group");
            return take(&builder.take());
        }
        let (mut parser, mut rest) = (Parser::new(settings()), body);
        while !rest.is_empty() {
            let most = rest.len().min(512 << 10);
            let end = rest[most..].iter().position(|&byte| byte == b'\n');
            let (block, behind) = rest.split_at(end.map_or(rest.len(), |end| most + end + 1));
            parser.parse(block).batches.iter().for_each(|(_, batch)| take(batch));
            rest = behind;
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

/// What `cargo xtask build` made.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    program.ancestors().nth(3).expect("it is in TARGET/release/deps").to_owned()
}

fn program() -> PathBuf {
    target().join("release/logship")
}

/// The function of an application, as the program loads it.
fn load(application: &Path, cache: &Path) -> Function {
    let (variables, socket, parts) = parts(application);
    fs::create_dir_all(cache).expect("a folder");
    let runtime = Runtime::new(Limits::default(), Some(cache)).expect("a runtime");
    let engine = Engine::new(StageLimits::default(), Some(&cache.join("stages"))).expect("an engine");
    let stages = Linked::new(Registry::new(engine));
    application::function(&runtime, &socket, parts, &stages, variables, vec![]).expect("a function")
}

type Variables = std::collections::BTreeMap<String, String>;

fn parts(application: &Path) -> (Variables, Part, Vec<(String, Part)>) {
    let manifest = Manifest::read(application).expect("an application");
    let component = &manifest.component["trigger-http"];
    let part = |path: &Path| Part::read(&manifest.file(path)).expect("a component");
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
        let mut command = Command::new(program());
        command.args(["function", "serve", "--listen", "127.0.0.1:0"]).arg(application);
        command.arg("--cache").arg(cache.join("program"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut said = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
        let address = said.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
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

/// A connection that is kept.
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
        self.reader.read_line(&mut line).expect("an answer");
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
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer).expect("a body");
        answer.len()
    }
}

/// Cells of a table: MB/s of each, and the ratio.
fn compare(bytes: usize, one: impl Fn(), other: impl Fn()) -> String {
    let (mut ones, mut others, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (first, second) = (seconds(3, &one), seconds(3, &other));
        ones.push(bytes as f64 / first / 1e6);
        others.push(bytes as f64 / second / 1e6);
        ratios.push(first / second);
    }
    format!("| {:.0} | {:.0} | {:.2} |", median(ones), median(others), median(ratios))
}

/// Seconds of a call, of so many.
fn seconds(calls: usize, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..calls).for_each(|_| work());
    begun.elapsed().as_secs_f64() / calls as f64
}
