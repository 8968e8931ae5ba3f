//! What calls of stages took, and how they ended: counted by component, for who watches a service.
//!
//! All of it is counted once a call, which is once a chunk of logs, and never once a log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Histogram, counter, gauge, histogram};

use super::{Identity, Kind, StageError};

/// Components that are told apart. What comes after them is counted together, as [`OTHERS`].
const MOST: usize = 200;

/// The name that those are counted by which are too many.
const OTHERS: &str = "others";

/// How a call of a stage ended that gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It trapped.
    Trap,
    /// It ran past its deadline.
    Deadline,
    /// It wanted more memory than it may have.
    Memory,
    /// It refused its configuration.
    Config,
    /// It refused a log, or an object of the size.
    Refusal,
    /// What it gave can't be.
    Contract,
}

impl Cause {
    const ALL: [Self; 6] =
        [Self::Trap, Self::Deadline, Self::Memory, Self::Config, Self::Refusal, Self::Contract];

    /// As it is told.
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

    /// Why a call failed; none where none was made.
    fn of(error: &StageError) -> Option<Self> {
        Some(match error {
            StageError::Trap { .. } => Self::Trap,
            StageError::Deadline { .. } => Self::Deadline,
            StageError::OutOfMemory { .. } => Self::Memory,
            StageError::Config { .. } => Self::Config,
            StageError::Rejected { .. } | StageError::InvalidBatch { .. } | StageError::TooLarge { .. } => {
                Self::Refusal
            }
            StageError::NoSuchLog { .. }
            | StageError::Messages { .. }
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

/// What the instances of a component did, since the process began.
#[derive(Debug)]
pub(crate) struct Tally {
    calls: AtomicU64,
    nanos: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Bytes of memory that an instance had at most.
    memory: AtomicU64,
    failures: [AtomicU64; Cause::ALL.len()],
    seconds: Histogram,
}

impl Default for Tally {
    /// One that is told nowhere.
    fn default() -> Self {
        Self::by(Histogram::noop())
    }
}

/// What a tally has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tallied {
    /// Calls.
    pub calls: u64,
    /// Seconds that they took together.
    pub seconds: f64,
    /// Bytes of batches, or of what was to be compressed, that went in.
    pub bytes_in: u64,
    /// Bytes that came out.
    pub bytes_out: u64,
    /// Bytes of memory that an instance had at most.
    pub memory: u64,
    failures: [u64; Cause::ALL.len()],
}

impl Tallied {
    /// How often calls failed, by why.
    pub fn failures(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.into_iter().zip(self.failures)
    }
}

impl Tally {
    fn by(seconds: Histogram) -> Self {
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

    /// A call has ended, in an instance of so much memory.
    pub(crate) fn called(&self, took: Duration, memory: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        self.memory.fetch_max(memory as u64, Ordering::Relaxed);
        self.seconds.record(took);
    }

    /// So many bytes went in, and came out.
    pub(crate) fn moved(&self, bytes_in: usize, bytes_out: usize) {
        self.bytes_in.fetch_add(bytes_in as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out as u64, Ordering::Relaxed);
    }

    /// A call gave an error.
    pub(crate) fn failed(&self, error: &StageError) {
        if let Some(cause) = Cause::of(error) {
            self.failures[cause as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Tallied {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tallied {
            calls: count(&self.calls),
            seconds: count(&self.nanos) as f64 / 1e9,
            bytes_in: count(&self.bytes_in),
            bytes_out: count(&self.bytes_out),
            memory: count(&self.memory),
            failures: self.failures.each_ref().map(count),
        }
    }
}

/// The tallies of all components that an engine has run.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<BTreeMap<(String, Kind), Entry>>);

#[derive(Debug)]
struct Entry {
    labels: Labels,
    tally: Arc<Tally>,
}

/// Name, version, digest and kind of a component.
type Labels = [(&'static str, String); 4];

impl Tallies {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Kind), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tally of a component. It outlives the component: loaded anew, it goes on.
    pub(crate) fn of(&self, stage: &Identity, kind: Kind) -> Arc<Tally> {
        let mut known = self.lock();
        let key = (stage.digest().to_owned(), kind);
        if let Some(entry) = known.get(&key) {
            return Arc::clone(&entry.tally);
        }
        if known.len() < MOST {
            let digest = stage.digest().chars().take(12).collect();
            let labels = labels(stage.name(), stage.version(), digest, kind);
            return Arc::clone(&known.entry(key).or_insert_with(|| Entry::new(labels)).tally);
        }
        let labels = labels(OTHERS, "", String::new(), kind);
        Arc::clone(&known.entry((String::new(), kind)).or_insert_with(|| Entry::new(labels)).tally)
    }

    /// What the component of a digest did, if it is told apart and did anything.
    pub(crate) fn tallied(&self, digest: &str, kind: Kind) -> Option<Tallied> {
        self.lock().get(&(digest.to_owned(), kind)).map(|entry| entry.tally.read())
    }

    /// Brings all to what counts for the process. The names are those of `service/metrics.rs`, which says what they are.
    pub(crate) fn export(&self) {
        for Entry { labels, tally } in self.lock().values() {
            let tallied = tally.read();
            if tallied.calls == 0 {
                continue;
            }
            let with = |name: &'static str, value: &'static str| {
                let mut with = labels.to_vec();
                with.push((name, value.to_owned()));
                with
            };
            gauge!("logship_stage_memory_bytes", labels).set(tallied.memory as f64);
            // A renderer has to do with none.
            let bytes = [("in", tallied.bytes_in), ("out", tallied.bytes_out)];
            for (direction, bytes) in bytes.into_iter().filter(|(_, bytes)| *bytes > 0) {
                counter!("logship_stage_bytes_total", &with("direction", direction)).absolute(bytes);
            }
            for (cause, count) in tallied.failures() {
                let labels = with("reason", cause.as_str());
                counter!("logship_stage_failures_total", &labels).absolute(count);
            }
        }
    }
}

impl Entry {
    fn new(labels: Labels) -> Self {
        let seconds = histogram!("logship_stage_call_seconds", &labels);
        Self { labels, tally: Arc::new(Tally::by(seconds)) }
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
    fn a_component_that_is_loaded_anew_is_counted_on() {
        let tallies = Tallies::default();
        tallies.of(&stage(1), Kind::Encoder).called(Duration::from_millis(5), 70);
        let tally = tallies.of(&stage(1), Kind::Encoder);
        tally.called(Duration::from_millis(5), 60);
        tally.moved(3, 4);
        tally.failed(&StageError::Trap { stage: stage(1), cause: "unreachable".into() });
        let read = tallies.tallied(stage(1).digest(), Kind::Encoder).unwrap();
        assert_eq!((read.calls, read.seconds, read.memory), (2, 0.01, 70));
        assert_eq!((read.bytes_in, read.bytes_out), (3, 4));
        let failures: Vec<_> = read.failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(failures, [(Cause::Trap, 1)]);
        assert_eq!(tallies.tallied(stage(1).digest(), Kind::Renderer), None);
    }

    #[test]
    fn components_that_are_too_many_are_counted_together() {
        let tallies = Tallies::default();
        for number in 0..MOST + 50 {
            tallies.of(&stage(number), Kind::Encoder).called(Duration::ZERO, 1);
        }
        assert_eq!(tallies.lock().len(), MOST + 1);
        assert_eq!(tallies.tallied("", Kind::Encoder).unwrap().calls, 50);
    }
}
