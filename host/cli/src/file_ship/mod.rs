//! Ships inputs: reads blocks of lines, parses them, and dispatches the logs to shards, on several threads.
//!
//! One thread reads. Workers take the next work item: the queued logs of an idle shard, in input order, or
//! else a block to parse. One worker at a time ships a shard, with a stage instance of its own. Several shards
//! keep all cores busy. The buffered data is bounded for inputs of any size.

pub mod infer;
mod omitted;
pub(crate) mod shard;
mod state;
mod workers;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crate::file_ship::shard::Plan;
use crate::file_ship::state::State;
use crate::file_ship::workers::Shared;
use crate::input::rejects::{RejectError, Rejects};
use crate::input::{Blocks, RecordOptions, Unread};
use logship_batch::batch::LogBatch;
use logship_batch::parser::Settings;
use logship_delivery::objects::object::{ObjectError, Shipped};
use logship_logstore::LostValues;

/// An error that stopped shipping. Objects shipped before it are complete.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// A file can't be read to its end and `strict` is set.
    #[error("{0} (--strict: unfinished objects were discarded)")]
    Unread(Unread),
    /// An object failed.
    #[error(transparent)]
    Object(ObjectError),
    /// Values have no place in an object and `strict` is set.
    #[error("values are not in the objects: {0} (--strict: unfinished objects were discarded)")]
    Lost(LostValues),
    /// A line is malformed and `strict` is set.
    #[error("{file}:{line}: {reason} (--strict: unfinished objects were discarded)")]
    Malformed {
        /// The file.
        file: String,
        /// The line number, from 1.
        line: u64,
        /// The problem of the line.
        reason: String,
    },
    /// The rejects can't be written.
    #[error(transparent)]
    Rejects(#[from] RejectError),
    /// A worker thread panicked.
    #[error("a worker thread panicked: this is a bug of logship; please report it with the message above")]
    Panicked,
}

/// Options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The parser's settings, with the assignment of logs to shards.
    pub settings: Settings,
    /// The format and the limits of records.
    pub records: RecordOptions,
    /// The number of threads that parse and run stages.
    pub threads: usize,
    /// True if a malformed line, a file that can't be read, or a lost value stops the run.
    pub strict: bool,
    /// The columns, if they were inferred: values without a column are lost.
    pub columns: Option<HashSet<String>>,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The objects, in the order of completion.
    pub objects: Vec<Shipped>,
    /// The number of logs in the input.
    pub logs: u64,
    /// The number of logs that the rule's transformers filtered out.
    pub filtered: u64,
    /// The files that were not read to their end.
    pub unread: Vec<Unread>,
    /// The bytes of lines read.
    pub input_bytes: u64,
    /// The keys of fields and tags that lack a column of [`Options::columns`].
    pub omitted: BTreeSet<String>,
    /// The values of the logs that are not in the objects.
    pub lost: LostValues,
    /// True if a log has tags.
    pub has_tags: bool,
    /// True if a log has a fraction of a second.
    pub has_nanos: bool,
    /// The input position where a signal stopped the run; everything before it was shipped.
    pub stopped_at: Option<String>,
}

/// Receives progress reports.
pub trait Progress: Send + Sync {
    /// Reports `bytes` more bytes of parsed lines.
    fn parsed(&self, bytes: u64);
    /// Reports a shipped object.
    fn shipped(&self, object: &Shipped);
}

/// Ships all blocks. `stop` ends the reading; everything read before is shipped.
///
/// # Errors
/// Returns the first error together with the objects shipped before it. Open objects are discarded without
/// a trace.
pub(crate) fn ship(
    blocks: Blocks,
    plan: &Arc<Plan>,
    options: &Options,
    rejects: &mut Rejects,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> (Outcome, Result<(), ShipError>) {
    let state = State::new(plan, options.settings.shards, rejects);
    let shared = Shared::new(state, options, progress, stop);
    thread::scope(|scope| {
        let shared = &shared;
        for _ in 0..options.threads.max(1) {
            scope.spawn(move || shared.work());
        }
        shared.read(blocks);
    });
    let mut state = shared.into_state();
    let kept = state.rejects.finish().map_err(ShipError::from);
    let result = state.failed.take().map_or(kept, Err);
    if state.stopped && result.is_ok() {
        let (path, lines) = state.position.unwrap_or_else(|| (Path::new("-").into(), 0));
        state.outcome.stopped_at = Some(format!("{}:{lines}", path.display()));
    }
    (state.outcome, result)
}

impl From<ObjectError> for ShipError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Lost(lost) => Self::Lost(lost),
            error => Self::Object(error),
        }
    }
}

impl Outcome {
    fn record(&mut self, batch: &LogBatch) {
        self.logs += batch.len() as u64;
        self.has_tags |= batch.groups.iter().any(|group| !group.tags.is_empty());
        self.has_nanos |= !batch.nanos.is_empty();
    }
}
