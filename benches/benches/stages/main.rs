//! Benchmark of each built-in stage as a component and as native code: `cargo xtask bench stages`.
//!
//! Both push the same chunks into a new object, and their rounds alternate, so that a slowdown of the machine affects
//! both. Standard output is a section of BENCHMARKS.md.

mod limits;

use std::hint::black_box;
use std::time::Instant;

use logship_batch::batch::LogBatch;
use logship_bench::{chunks, line, log_bytes, median};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits};
use logship_runtime::stage::{Request, Stage};
use logship_stage::object_path::Request as NativeRequest;
use logship_stage::{Batch, Compressor, Encoder, Formatter, LogGroup, Renderer, Tag, Transformer};

const LOGS: u64 = 200_000;
pub(crate) const ROUNDS: usize = 15;
pub(crate) const PARQUET: &str = r#"{"compression":"snappy","columns":[
    {"key":"__time__","type":"int64"},{"key":"__topic__"},{"key":"__source__"},{"key":"method"},{"key":"path"},
    {"key":"status","type":"int32"},{"key":"bytes","type":"int64"},{"key":"latency","type":"double"},
    {"key":"host"},{"key":"client_ip"},{"key":"referer"},{"key":"user_agent"},{"key":"request_id"}]}"#;
pub(crate) const CSV: &str = r#"{"columns":["__time__","__topic__","__source__","method","path","status","bytes","latency",
    "host","client_ip","referer","user_agent","request_id"]}"#;

/// Cases of `transform-fields`: description and config.
const TRANSFORMS: [(&str, &str); 5] = [
    ("nothing", ""),
    ("filters most logs", r#"{"where":{"status":"404"}}"#),
    ("drops and renames a field", r#"{"drop":["referer"],"rename":{"path":"url"}}"#),
    ("masks a pattern in every field", r#"{"mask":{"*":"[0-9]{13,16}"}}"#),
    ("hashes a field", r#"{"hash":["client_ip"],"hash_key":"key"}"#),
];

fn main() {
    let chunks = chunks(&(0..LOGS).map(line).collect::<Vec<_>>());
    let native: Vec<Batch> = chunks.iter().map(native).collect();
    let bytes = chunks.iter().map(log_bytes).sum::<usize>() as f64;
    let registry = Registry::new(Engine::new(Limits::default(), None).expect("an engine"));
    let json = {
        let mut encoder = encode_json::JsonEncoder::open("").expect("a configuration");
        native.iter().map(|batch| encoder.push(batch).expect("encodes")).collect::<Vec<_>>()
    };
    let load = limits::Load { chunks: &chunks, json: &json, bytes };
    // `cargo bench --bench stages -- guards` measures only those.
    if std::env::args().any(|argument| argument == "guards") {
        return limits::guards(&load);
    }
    println!(
        "Each stage as a component, compared with the same code as native code: {LOGS} access logs of 10 fields in {} chunks, \
         {:.0} bytes of keys and values per log; medians of {ROUNDS} alternating rounds. MB are those of the input: \
         keys and values for an encoder, a formatter and a transformer, JSON lines for a compressor.\n",
        chunks.len(),
        bytes / LOGS as f64
    );
    println!("| stage | native MB/s | component MB/s | component/native |\n|---|---:|---:|---:|");
    let bench = Bench { registry: &registry, rounds: ROUNDS, native: &native, load: &load };
    bench.encoder::<encode_json::JsonEncoder>("encode-json", "");
    bench.encoder::<encode_csv::CsvEncoder>("encode-csv", CSV);
    bench.encoder::<encode_parquet::ParquetEncoder>("encode-parquet", PARQUET);
    bench.compressor::<compress_snappy::SnappyCompressor>("compress-snappy", &json);
    bench.compressor::<compress_gzip::GzipCompressor>("compress-gzip", &json);
    bench.compressor::<compress_zstd::ZstdCompressor>("compress-zstd", &json);
    bench.formatter::<siem_hec::HecFormatter>("siem-hec", r#"{"sourcetype":"sls","source":"access"}"#);
    bench.formatter::<siem_syslog::SyslogFormatter>("siem-syslog", "");
    for (case, config) in TRANSFORMS {
        let name = format!("transform-fields: {case}");
        bench.transformer::<transform_fields::FieldsTransformer>(&name, config);
    }
    bench.renderer();
    bench.pool();
    limits::deadline_modes(&load);
    limits::guards(&load);
}

struct Bench<'a> {
    registry: &'a Registry,
    rounds: usize,
    /// The chunks of the load, for native code.
    native: &'a [Batch],
    load: &'a limits::Load<'a>,
}

impl Bench<'_> {
    fn encoder<E: Encoder>(&self, name: &str, config: &str) {
        let stage = Stage::Encoder(self.registry.encoder(name).expect("a built-in stage"));
        let run_native = || {
            let mut object = E::open(config).expect("a configuration");
            let push = |batch| object.push(batch).expect("encodes").len();
            let written: usize = self.native.iter().map(push).sum();
            written + object.finish().expect("ends").len()
        };
        self.compare(name, config, run_native, &stage);
    }

    fn formatter<F: Formatter>(&self, name: &str, config: &str) {
        let stage = Stage::Formatter(self.registry.formatter(name).expect("a built-in stage"));
        let run_native = || {
            let mut session = F::open(config).expect("a configuration");
            self.native.iter().map(|batch| session.push(batch).expect("formats").bytes.len()).sum()
        };
        self.compare(name, config, run_native, &stage);
    }

    fn transformer<T: Transformer>(&self, name: &str, config: &str) {
        let stage = name.split(':').next().expect("a name");
        let stage = Stage::Transformer(self.registry.transformer(stage).expect("a built-in stage"));
        let run_native = || {
            let mut session = T::open(config).expect("a configuration");
            // Clones the batch, as a component receives a copy too.
            let push = |batch: &Batch| session.push(batch.clone()).expect("transforms").batch.values.len();
            self.native.iter().map(push).sum()
        };
        self.compare(name, config, run_native, &stage);
    }

    /// Measures a compressor. Clones each chunk before the push, outside the measured time, so that the chunk is in the
    /// CPU cache, as after an encoder.
    fn compressor<C: Compressor>(&self, name: &str, chunks: &[Vec<u8>]) {
        let stage = self.registry.compressor(name).expect("a built-in stage");
        let bytes = chunks.iter().map(Vec::len).sum::<usize>() as f64;
        let run_native = || {
            let mut object = C::open("").expect("a configuration");
            let (written, seconds) =
                push_cached(chunks, |chunk| object.push(chunk).expect("compresses").len());
            let begun = Instant::now();
            let ending = object.finish().expect("ends");
            (written + ending.header.len() + ending.trailer.len(), seconds + begun.elapsed().as_secs_f64())
        };
        let run_component = || {
            let mut object = stage.open("").expect("a configuration");
            let (written, seconds) =
                push_cached(chunks, |chunk| object.push(chunk).expect("compresses").len());
            let begun = Instant::now();
            let ending = object.finish().expect("ends");
            (written + ending.header.len() + ending.trailer.len(), seconds + begun.elapsed().as_secs_f64())
        };
        self.compare_timed(name, bytes, run_native, run_component);
    }

    /// Compares native code with a stage, which gets the load.
    fn compare(&self, name: &str, config: &str, native: impl Fn() -> usize, stage: &Stage) {
        let component = || self.load.push(stage, config);
        self.compare_timed(name, self.load.bytes, || timed(&native), || timed(&component));
    }

    /// Runs both in alternating rounds. Each returns the bytes written and the seconds taken.
    fn compare_timed(
        &self,
        name: &str,
        bytes: f64,
        native: impl Fn() -> (usize, f64),
        component: impl Fn() -> (usize, f64),
    ) {
        assert_eq!(native().0, component().0, "{name}: output sizes differ");
        let (mut natives, mut components, mut ratios) = (vec![], vec![], vec![]);
        for _ in 0..self.rounds {
            let ((_, native_seconds), (_, component_seconds)) = (native(), component());
            natives.push(bytes / native_seconds / 1e6);
            components.push(bytes / component_seconds / 1e6);
            ratios.push(native_seconds / component_seconds);
        }
        println!("| {name} | {:.0} | {:.0} | {:.2} |", median(natives), median(components), median(ratios));
    }

    fn renderer(&self) {
        const KEYS: usize = 1000;
        let stage = self.registry.renderer("object-path").expect("a built-in stage");
        let component = request();
        let native = native_request(&component);
        let mut native_times = vec![];
        let mut component_times = vec![];
        for _ in 0..self.rounds {
            native_times.push(seconds(&|| {
                (0..KEYS)
                    .map(|_| object_path::PathRenderer::render("", &native).expect("renders").len())
                    .sum()
            }));
            component_times.push(seconds(&|| {
                (0..KEYS).map(|_| stage.render("", &component).expect("renders").len()).sum()
            }));
        }
        let micros = |times| median(times) / KEYS as f64 * 1e6;
        println!(
            "\n`object-path` renders a key in {:.1} µs as native code, and in {:.1} µs as a component, including instantiation.",
            micros(native_times),
            micros(component_times)
        );
    }

    /// Measures the creation of an object: an instance from the pool, and the stage's `open`.
    fn pool(&self) {
        const OBJECTS: usize = 1000;
        println!("\n| new object | µs |\n|---|---:|");
        for (name, config) in [("encode-json", ""), ("encode-csv", CSV), ("encode-parquet", PARQUET)] {
            let stage = self.registry.encoder(name).expect("a built-in stage");
            let open = || (0..OBJECTS).map(|_| usize::from(stage.open(config).is_ok())).sum();
            let times = (0..self.rounds).map(|_| seconds(&open)).collect();
            println!("| {name} | {:.1} |", median(times) / OBJECTS as f64 * 1e6);
        }
    }
}

pub(crate) fn seconds(work: &impl Fn() -> usize) -> f64 {
    timed(work).1
}

/// Runs `work`, and returns its result and the seconds taken.
fn timed(work: &impl Fn() -> usize) -> (usize, f64) {
    let begun = Instant::now();
    let result = black_box(work());
    (result, begun.elapsed().as_secs_f64())
}

/// Pushes chunks that are in the CPU cache. Returns the bytes written and the seconds of the pushes.
fn push_cached(chunks: &[Vec<u8>], mut push: impl FnMut(&[u8]) -> usize) -> (usize, f64) {
    let (mut written, mut seconds) = (0, 0.0);
    for chunk in chunks {
        let chunk = black_box(chunk.clone());
        let begun = Instant::now();
        written += push(&chunk);
        seconds += begun.elapsed().as_secs_f64();
    }
    (written, seconds)
}

fn native(batch: &LogBatch) -> Batch {
    let tag = |tag: &logship_batch::batch::Tag| Tag { key: tag.key.clone(), value: tag.value.clone() };
    let group = |group: &logship_batch::batch::LogGroup| LogGroup {
        topic: group.topic.clone(),
        source: group.source.clone(),
        tags: group.tags.iter().map(tag).collect(),
    };
    let batch = batch.clone();
    Batch::new(logship_stage::LogBatch {
        groups: batch.groups.iter().map(group).collect(),
        keys: batch.keys,
        times: batch.times,
        nanos: batch.nanos,
        log_groups: batch.log_groups,
        field_ends: batch.field_ends,
        field_keys: batch.field_keys,
        value_ends: batch.value_ends,
        values: batch.values,
    })
    .expect("the host keeps the invariants")
}

fn request() -> Request {
    Request {
        rule: "bench".into(),
        project: String::new(),
        logstore: String::new(),
        shard: 0,
        prefix: "log_ship_oss_example".into(),
        partition_format: "year=%Y/mon=%m/day=%d/log_%H%M%s".into(),
        partition_time: 1_484_913_043_351_525_351,
        utc_offset: 28_800,
        creation_time: 1_484_913_043_351_525_351,
        number: 2_850_008,
        suffix: ".snappy.parquet".into(),
    }
}

fn native_request(request: &Request) -> NativeRequest {
    let request = request.clone();
    NativeRequest {
        rule: request.rule,
        project: request.project,
        logstore: request.logstore,
        shard: request.shard,
        prefix: request.prefix,
        partition_format: request.partition_format,
        partition_time: request.partition_time,
        utc_offset: request.utc_offset,
        creation_time: request.creation_time,
        number: request.number,
        suffix: request.suffix,
    }
}
