//! The cost of a stage's limits: deadlines, and the guard's budget.

use logship_batch::batch::LogBatch;
use logship_bench::median;
use logship_guard::Guard;
use logship_guard::component::DEFAULT_BUDGET;
use logship_registry::Registry;
use logship_runtime::engine::{DeadlineMode, Engine, Limits};
use logship_runtime::stage::{Kind, Stage};

use crate::{CSV, PARQUET, ROUNDS, TRANSFORMS, seconds};

/// The input of the stages.
pub(crate) struct Load<'a> {
    pub(crate) chunks: &'a [LogBatch],
    pub(crate) json: &'a [Vec<u8>],
    /// The size of the chunks.
    pub(crate) bytes: f64,
}

impl Load<'_> {
    /// Returns the size of a stage's input.
    fn bytes(&self, kind: Kind) -> f64 {
        if kind == Kind::Compressor {
            self.json.iter().map(Vec::len).sum::<usize>() as f64
        } else {
            self.bytes
        }
    }

    /// Pushes everything into a stage.
    pub(crate) fn push(&self, stage: &Stage, config: &str) -> usize {
        match stage {
            Stage::Encoder(stage) => {
                let mut object = stage.open(config).expect("a configuration");
                let written: usize =
                    self.chunks.iter().map(|batch| object.push(batch).expect("encodes").len()).sum();
                written + object.finish().expect("ends").0.len()
            }
            Stage::Compressor(stage) => {
                let mut object = stage.open(config).expect("a configuration");
                self.json.iter().map(|chunk| object.push(chunk).expect("compresses").len()).sum()
            }
            Stage::Formatter(stage) => {
                let mut session = stage.open(config).expect("a configuration");
                self.chunks.iter().map(|batch| session.push(batch).expect("formats").bytes.len()).sum()
            }
            Stage::Transformer(stage) => {
                let mut session = stage.open(config).expect("a configuration");
                let push = |batch| session.push(batch).expect("transforms").batch.values.len();
                self.chunks.iter().map(push).sum()
            }
            Stage::Renderer(_) | Stage::RowEncoder(_) | Stage::Pipeline(_) => {
                unreachable!("not measured here")
            }
        }
    }
}

/// Measures the cost of each deadline mode, in alternating rounds: none, a signal at the deadline, and epoch checks in
/// every loop.
pub(crate) fn deadline_modes(load: &Load<'_>) {
    let engine = Engine::new(Limits::default(), None).expect("an engine");
    let registries = [DeadlineMode::None, DeadlineMode::Signal, DeadlineMode::Epoch]
        .map(|mode| Registry::new(engine.with_deadline_mode(mode)));
    println!(
        "\nA custom stage in each deadline mode. All modes limit memory.\n\n\
         | stage | none, MB/s | signal, MB/s | | epoch, MB/s | |\n|---|---:|---:|---:|---:|---:|"
    );
    for (name, kind, config) in [
        ("encode-json", Kind::Encoder, ""),
        ("encode-csv", Kind::Encoder, CSV),
        ("encode-parquet", Kind::Encoder, PARQUET),
        ("compress-snappy", Kind::Compressor, ""),
        ("siem-hec", Kind::Formatter, ""),
    ] {
        let stages = registries.each_ref().map(|registry| custom(registry, kind, name, <[u8]>::to_vec));
        let [(none, _), (signal, signal_ratio), (epoch, epoch_ratio)] = compare(load, kind, config, &stages);
        println!("| {name} | {none:.0} | {signal:.0} | {signal_ratio:.2} | {epoch:.0} | {epoch_ratio:.2} |");
    }
}

/// Measures the cost of a guard: the built-in stages with a budget, as if somebody else had made them, without another
/// deadline.
pub(crate) fn guards(load: &Load<'_>) {
    let engine = Engine::new(Limits::default(), None).expect("an engine");
    let registry = Registry::new(engine.with_deadline_mode(DeadlineMode::None));
    println!(
        "\nThe built-in stages as they are, and with the guard that stages of others get.\n\n\
         | stage | as it is, MB/s | guarded, MB/s | | size |\n|---|---:|---:|---:|---:|"
    );
    let masks = ("transform-fields: masks every field", TRANSFORMS[3].1);
    for (name, kind, config) in [
        ("encode-json", Kind::Encoder, ""),
        ("encode-csv", Kind::Encoder, CSV),
        ("encode-parquet", Kind::Encoder, PARQUET),
        ("compress-snappy", Kind::Compressor, ""),
        ("compress-gzip", Kind::Compressor, ""),
        ("compress-zstd", Kind::Compressor, ""),
        ("siem-hec", Kind::Formatter, ""),
        ("siem-syslog", Kind::Formatter, ""),
        ("transform-fields", Kind::Transformer, ""),
        (masks.0, Kind::Transformer, masks.1),
    ] {
        let stage = name.split(':').next().expect("a name");
        let plain = registry.read(Some(kind), stage).expect("a built-in stage");
        let growth = guarded(&plain).len() as f64 / plain.len() as f64;
        let stages =
            [custom(&registry, kind, stage, <[u8]>::to_vec), custom(&registry, kind, stage, guarded)];
        let [(plain, _), (guarded, ratio)] = compare(load, kind, config, &stages);
        println!("| {name} | {plain:.0} | {guarded:.0} | {ratio:.2} | {growth:.2} |");
    }
}

fn guarded(stage: &[u8]) -> Vec<u8> {
    let guard = Guard { budget: Some(DEFAULT_BUDGET), memory: Some(256 << 20) };
    guard.component(stage, &|_| false).expect("a stage that can be guarded")
}

/// Loads a built-in stage as if somebody else had made it: with another digest.
fn custom(registry: &Registry, kind: Kind, name: &str, change: impl Fn(&[u8]) -> Vec<u8>) -> Stage {
    const CUSTOM_SECTION: &[u8] = b"\0\x07\x06custom";
    let built_in = change(&registry.read(Some(kind), name).expect("a built-in stage"));
    registry.stage_from_bytes(kind, name, &[built_in.as_slice(), CUSTOM_SECTION].concat()).expect("a stage")
}

/// Returns the speed of each stage in MB/s, and its ratio to the first. Their rounds alternate.
fn compare<const N: usize>(
    load: &Load<'_>,
    kind: Kind,
    config: &str,
    stages: &[Stage; N],
) -> [(f64, f64); N] {
    let mut speeds = [const { vec![] }; N];
    let mut ratios = [const { vec![] }; N];
    for round in 0..=ROUNDS {
        let times = stages.each_ref().map(|stage| seconds(&|| load.push(stage, config)));
        // Round 0 warms up.
        if round > 0 {
            for (number, time) in times.iter().enumerate() {
                speeds[number].push(load.bytes(kind) / time / 1e6);
                ratios[number].push(times[0] / time);
            }
        }
    }
    let mut ratios = ratios.into_iter();
    speeds.map(|speeds| (median(speeds), ratios.next().map_or(1.0, median)))
}
