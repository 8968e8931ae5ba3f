//! Stage metrics: calls, durations, bytes, memory and failures, by component.
//!
//! They are recorded once per call, that is once per chunk of logs, never once per log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Histogram, counter, gauge, histogram};

use crate::error::StageError;
use crate::identity::Identity;
use crate::kind::Kind;

/// Maximum number of components with metrics of their own. Further components share the metrics of
/// [`OTHER_STAGES`].
const MAX_STAGES: usize = 200;

/// The name under which further components are counted.
const OTHER_STAGES: &str = "others";

/// The reason why a stage's call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// The stage trapped.
    Trap,
    /// The call exceeded its deadline.
    Deadline,
    /// The stage requested more memory than its cap.
    Memory,
    /// The stage rejected its configuration.
    Config,
    /// The stage rejected a log, or an object of this size.
    Refusal,
    /// The stage's answer violates the contract.
    Contract,
}

impl FailureReason {
    const ALL: [Self; 6] =
        [Self::Trap, Self::Deadline, Self::Memory, Self::Config, Self::Refusal, Self::Contract];

    /// Returns the value of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Config => "config",
            Self::Refusal => "refusal",
            Self::Contract => "contract",
        }
    }

    /// Returns the reason of a failed call. `None` if the error did not come from a call.
    fn of(error: &StageError) -> Option<Self> {
        Some(match error {
            StageError::Trap { .. } => Self::Trap,
            StageError::Deadline { .. } => Self::Deadline,
            StageError::OutOfMemory { .. } => Self::Memory,
            StageError::Config { .. } | StageError::Table { .. } => Self::Config,
            StageError::Rejected { .. } | StageError::InvalidBatch { .. } | StageError::TooLarge { .. } => {
                Self::Refusal
            }
            StageError::NoSuchLog { .. }
            | StageError::Messages { .. }
            | StageError::Rows { .. }
            | StageError::Transformed { .. }
            | StageError::Key { .. }
            | StageError::SameKey { .. }
            | StageError::Description { .. } => Self::Contract,
            StageError::Unknown { .. }
            | StageError::NoVersion { .. }
            | StageError::Unreadable { .. }
            | StageError::Imports { .. }
            | StageError::Wasi { .. }
            | StageError::NotAStage { .. }
            | StageError::Version { .. }
            | StageError::Mismatch { .. }
            | StageError::WrongKind { .. } => return None,
        })
    }
}

/// Metrics of all instances of a component, since the process started.
#[derive(Debug)]
pub(crate) struct StageMetrics {
    calls: AtomicU64,
    nanos: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Largest memory of an instance, in bytes.
    memory: AtomicU64,
    failures: [AtomicU64; FailureReason::ALL.len()],
    seconds: Histogram,
}

impl Default for StageMetrics {
    /// Metrics that are never exported.
    fn default() -> Self {
        Self::new(Histogram::noop())
    }
}

/// The metrics of a component at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageMetricsSnapshot {
    /// Number of calls.
    pub calls: u64,
    /// Total duration of the calls, in seconds.
    pub seconds: f64,
    /// Bytes of the batches, or bytes to compress, passed to the stage.
    pub bytes_in: u64,
    /// Bytes returned by the stage.
    pub bytes_out: u64,
    /// Largest memory of an instance, in bytes.
    pub memory: u64,
    failures: [u64; FailureReason::ALL.len()],
}

impl StageMetricsSnapshot {
    /// Returns the number of failed calls by reason.
    pub fn failures(&self) -> impl Iterator<Item = (FailureReason, u64)> + '_ {
        FailureReason::ALL.into_iter().zip(self.failures)
    }
}

impl StageMetrics {
    fn new(seconds: Histogram) -> Self {
        Self {
            calls: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            failures: Default::default(),
            seconds,
        }
    }

    /// Records a call, and the memory of its instance in bytes.
    pub(crate) fn record_call(&self, duration: Duration, memory: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(duration.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        self.memory.fetch_max(memory as u64, Ordering::Relaxed);
        self.seconds.record(duration);
    }

    /// Records the bytes passed to the stage and returned by it.
    pub(crate) fn record_bytes(&self, bytes_in: usize, bytes_out: usize) {
        self.bytes_in.fetch_add(bytes_in as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out as u64, Ordering::Relaxed);
    }

    /// Records a failed call.
    pub(crate) fn record_failure(&self, error: &StageError) {
        if let Some(cause) = FailureReason::of(error) {
            self.failures[cause as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> StageMetricsSnapshot {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StageMetricsSnapshot {
            calls: count(&self.calls),
            seconds: count(&self.nanos) as f64 / 1e9,
            bytes_in: count(&self.bytes_in),
            bytes_out: count(&self.bytes_out),
            memory: count(&self.memory),
            failures: self.failures.each_ref().map(count),
        }
    }
}

/// The metrics of all components that an engine has run.
#[derive(Debug, Default)]
pub(crate) struct StageMetricsRegistry(Mutex<BTreeMap<(String, Kind), Entry>>);

#[derive(Debug)]
struct Entry {
    labels: Labels,
    metrics: Arc<StageMetrics>,
}

/// Name, version, digest and kind of a component, as metric labels.
type Labels = [(&'static str, String); 4];

impl StageMetricsRegistry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Kind), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the metrics of a component. They outlive the component: after a reload it continues them.
    pub(crate) fn of(&self, stage: &Identity, kind: Kind) -> Arc<StageMetrics> {
        let mut known = self.lock();
        let key = (stage.digest().to_owned(), kind);
        if let Some(entry) = known.get(&key) {
            return Arc::clone(&entry.metrics);
        }
        if known.len() < MAX_STAGES {
            let digest = stage.digest().chars().take(12).collect();
            let labels = labels(stage.name(), stage.version(), digest, kind);
            return Arc::clone(&known.entry(key).or_insert_with(|| Entry::new(labels)).metrics);
        }
        let labels = labels(OTHER_STAGES, "", String::new(), kind);
        Arc::clone(&known.entry((String::new(), kind)).or_insert_with(|| Entry::new(labels)).metrics)
    }

    /// Returns the metrics of the component with this digest, if it has metrics of its own.
    pub(crate) fn snapshot(&self, digest: &str, kind: Kind) -> Option<StageMetricsSnapshot> {
        self.lock().get(&(digest.to_owned(), kind)).map(|entry| entry.metrics.read())
    }

    /// Publishes all values to the process's metrics recorder. `host/server/src/metrics.rs` describes the metrics.
    pub(crate) fn export(&self) {
        for Entry { labels, metrics } in self.lock().values() {
            let snapshot = metrics.read();
            if snapshot.calls == 0 {
                continue;
            }
            let with = |name: &'static str, value: &'static str| {
                let mut with = labels.to_vec();
                with.push((name, value.to_owned()));
                with
            };
            gauge!("logship_stage_memory_bytes", labels).set(snapshot.memory as f64);
            // A renderer processes no bytes.
            let bytes = [("in", snapshot.bytes_in), ("out", snapshot.bytes_out)];
            for (direction, bytes) in bytes.into_iter().filter(|(_, bytes)| *bytes > 0) {
                counter!("logship_stage_bytes_total", &with("direction", direction)).absolute(bytes);
            }
            for (cause, count) in snapshot.failures() {
                let labels = with("reason", cause.as_str());
                counter!("logship_stage_failures_total", &labels).absolute(count);
            }
        }
    }
}

impl Entry {
    fn new(labels: Labels) -> Self {
        let seconds = histogram!("logship_stage_call_seconds", &labels);
        Self { labels, metrics: Arc::new(StageMetrics::new(seconds)) }
    }
}

fn labels(name: &str, version: &str, digest: String, kind: Kind) -> Labels {
    [
        ("stage", name.to_owned()),
        ("version", version.to_owned()),
        ("digest", digest),
        ("kind", kind.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(number: usize) -> Identity {
        Identity::new("mine", "1", format!("{number:064x}"), 1, vec![])
    }

    #[test]
    fn reload_continues_metrics() {
        let registry = StageMetricsRegistry::default();
        registry.of(&stage(1), Kind::Encoder).record_call(Duration::from_millis(5), 70);
        let metrics = registry.of(&stage(1), Kind::Encoder);
        metrics.record_call(Duration::from_millis(5), 60);
        metrics.record_bytes(3, 4);
        metrics.record_failure(&StageError::Trap { stage: stage(1), cause: "unreachable".into() });
        let read = registry.snapshot(stage(1).digest(), Kind::Encoder).unwrap();
        assert_eq!((read.calls, read.seconds, read.memory), (2, 0.01, 70));
        assert_eq!((read.bytes_in, read.bytes_out), (3, 4));
        let failures: Vec<_> = read.failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(failures, [(FailureReason::Trap, 1)]);
        assert_eq!(registry.snapshot(stage(1).digest(), Kind::Renderer), None);
    }

    #[test]
    fn excess_components_share_metrics() {
        let registry = StageMetricsRegistry::default();
        for number in 0..MAX_STAGES + 50 {
            registry.of(&stage(number), Kind::Encoder).record_call(Duration::ZERO, 1);
        }
        assert_eq!(registry.lock().len(), MAX_STAGES + 1);
        assert_eq!(registry.snapshot("", Kind::Encoder).unwrap().calls, 50);
    }
}
