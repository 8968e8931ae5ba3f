//! Ships inputs: reads blocks of lines, parses them, and dispatches the logs to shards, on several threads.
//!
//! One thread reads. Workers take the next work item: the queued logs of an idle shard, in input order, or
//! else a block to parse. One worker at a time ships a shard, with a stage instance of its own. Several shards
//! keep all cores busy. The buffered data is bounded for inputs of any size.

pub mod infer;
pub mod input;
pub mod rejects;
pub(crate) mod shard;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::file_ship::input::{Block, Blocks, InputError};
use crate::file_ship::rejects::{RejectError, Rejects};
use crate::file_ship::shard::{Plan, ShardShipper};
use logship_batch::batch::LogBatch;
use logship_batch::parser::{Parsed, Parser, Reject, Settings};
use logship_batch::time;
use logship_delivery::objects::object::{ObjectError, Shipped};

/// The largest size of the shards' queues, in bytes of values.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// An error that stopped shipping. Objects shipped before it are complete.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// An input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// An object failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
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
    /// The number of threads that parse and run stages.
    pub threads: usize,
    /// True if a malformed line stops the run.
    pub strict: bool,
    /// True if [`Outcome::keys`] is collected.
    pub track_keys: bool,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The objects, in the order of completion.
    pub objects: Vec<Shipped>,
    /// The number of logs that the rule's transformers filtered out.
    pub filtered: u64,
    /// The bytes of lines read.
    pub input_bytes: u64,
    /// The keys of all fields and tags, if [`Options::track_keys`] is set.
    pub keys: BTreeSet<String>,
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

/// The state that the threads share.
struct Shared<'a> {
    state: Mutex<State<'a>>,
    /// Wakes workers when work may be available.
    work_ready: Condvar,
    /// Wakes the reader when the queues may have capacity.
    capacity: Condvar,
    options: &'a Options,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

struct State<'a> {
    /// Blocks to parse, with their numbers.
    blocks: VecDeque<(u64, Block)>,
    /// The number of blocks read.
    blocks_read: u64,
    end_of_input: bool,
    /// True if a signal stopped the reader.
    stopped: bool,
    /// Parsed blocks that wait for an earlier block.
    parsed: BTreeMap<u64, (Arc<Path>, Parsed)>,
    /// The number of blocks dispatched to the shards.
    dispatched: u64,
    /// The file of the last dispatched block, and the number of its dispatched lines.
    position: Option<(Arc<Path>, u64)>,
    queued_bytes: usize,
    shards: Vec<Shard>,
    /// Idle shards that have queued logs or an object that is due.
    ready: VecDeque<usize>,
    rejects: &'a mut Rejects,
    outcome: Outcome,
    failed: Option<ShipError>,
}

struct Shard {
    /// `None` while a worker ships the shard.
    shipper: Option<Box<ShardShipper>>,
    queue: Vec<LogBatch>,
    /// The time by which the shard's oldest open object must be finished.
    due: Option<Instant>,
    is_ready: bool,
    is_done: bool,
}

/// A worker's next work item.
enum Work {
    Parse(u64, Block),
    Ship { shard: usize, shipper: Box<ShardShipper>, batches: Vec<LogBatch>, is_due: bool, is_last: bool },
    Wait(Option<Instant>),
    End,
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
    let shards = (0..options.settings.shards).map(|shard| Shard::new(plan, shard)).collect();
    let shared = Shared {
        state: Mutex::new(State {
            blocks: VecDeque::new(),
            blocks_read: 0,
            end_of_input: false,
            stopped: false,
            parsed: BTreeMap::new(),
            dispatched: 0,
            position: None,
            queued_bytes: 0,
            shards,
            ready: VecDeque::new(),
            rejects,
            outcome: Outcome::default(),
            failed: None,
        }),
        work_ready: Condvar::new(),
        capacity: Condvar::new(),
        options,
        progress,
        stop,
    };
    thread::scope(|scope| {
        let shared = &shared;
        for _ in 0..options.threads.max(1) {
            scope.spawn(move || shared.work());
        }
        shared.read(blocks);
    });
    let mut state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let kept = state.rejects.finish().map_err(ShipError::from);
    let result = state.failed.take().map_or(kept, Err);
    if state.stopped && result.is_ok() {
        let (path, lines) = state.position.unwrap_or_else(|| (Path::new("-").into(), 0));
        state.outcome.stopped_at = Some(format!("{}:{lines}", path.display()));
    }
    (state.outcome, result)
}

impl Shard {
    fn new(plan: &Arc<Plan>, shard: u32) -> Self {
        let shipper = Some(Box::new(ShardShipper::new(Arc::clone(plan), shard)));
        Self { shipper, queue: vec![], due: None, is_ready: false, is_done: false }
    }
}

impl<'a> Shared<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads blocks while the queues have capacity.
    fn read(&self, mut blocks: Blocks) {
        loop {
            let mut state = self.lock();
            while !self.has_capacity(&state) {
                state = self.wait(&self.capacity, state, None);
            }
            drop(state);
            let stop = || self.stop.load(Ordering::Relaxed) || self.lock().failed.is_some();
            let next = if stop() { Ok(None) } else { blocks.next_block(&stop) };
            let mut state = self.lock();
            state.stopped = self.stop.load(Ordering::Relaxed);
            match next {
                Ok(Some(block)) => {
                    let number = state.blocks_read;
                    state.blocks_read += 1;
                    state.blocks.push_back((number, block));
                }
                Ok(None) => state.end_of_input = true,
                Err(error) => state.fail(error.into()),
            }
            let end = state.end_of_input || state.failed.is_some();
            drop(state);
            self.work_ready.notify_all();
            if end {
                return;
            }
        }
    }

    /// Returns true if the reader may continue: the queues have capacity, or the run failed and the reader ends.
    fn has_capacity(&self, state: &State<'_>) -> bool {
        let pending = state.blocks.len() + state.parsed.len();
        state.failed.is_some()
            || (pending <= 3 * self.options.threads && state.queued_bytes <= MAX_QUEUED_BYTES)
    }

    /// Wakes the workers, and the reader if the queues have capacity.
    fn notify(&self, state: &State<'_>) {
        self.work_ready.notify_all();
        if self.has_capacity(state) {
            self.capacity.notify_one();
        }
    }

    /// Processes work items until the run ends.
    fn work(&self) {
        let _guard = PanicGuard(self);
        let mut parser = Parser::new(self.options.settings.clone());
        let mut state = self.lock();
        loop {
            match state.next_work() {
                Work::End => {
                    drop(state);
                    self.work_ready.notify_all();
                    return;
                }
                Work::Wait(until) => state = self.wait(&self.work_ready, state, until),
                Work::Parse(number, block) => {
                    self.notify(&state);
                    drop(state);
                    // A stream may run for days, so the default time must advance.
                    parser.set_default_time(time::now());
                    let parsed = parser.parse(&block.bytes);
                    self.progress.parsed(block.bytes.len() as u64);
                    state = self.lock();
                    state.outcome.input_bytes += block.bytes.len() as u64;
                    state.parsed.insert(number, (block.path, parsed));
                    state.dispatch(self.options.strict, self.options.track_keys);
                    self.notify(&state);
                }
                Work::Ship { shard, mut shipper, batches, is_due, is_last } => {
                    drop(state);
                    let result = ship_shard(&mut shipper, &batches, is_due, is_last);
                    let (shipped, filtered) = (shipper.take_shipped(), shipper.take_filtered());
                    shipped.iter().for_each(|object| self.progress.shipped(object));
                    state = self.lock();
                    state.queued_bytes -= batches.iter().map(LogBatch::bytes).sum::<usize>();
                    state.outcome.objects.extend(shipped);
                    state.outcome.filtered += filtered;
                    state.put_back(shard, shipper, is_last);
                    if let Err(error) = result {
                        state.fail(error.into());
                    }
                    self.notify(&state);
                }
            }
        }
    }

    fn wait<'g>(
        &self,
        condition: &Condvar,
        state: MutexGuard<'g, State<'a>>,
        until: Option<Instant>,
    ) -> MutexGuard<'g, State<'a>> {
        // Wakes at least once a second, because a stop signal notifies nobody.
        let max_wait = Duration::from_secs(1);
        let time =
            until.map_or(max_wait, |until| until.saturating_duration_since(Instant::now()).min(max_wait));
        condition.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Ends the other threads if a worker panics; they would wait for it forever.
struct PanicGuard<'s, 'a>(&'s Shared<'a>);

impl Drop for PanicGuard<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut state = self.0.lock();
            state.fail(ShipError::Panicked);
            self.0.notify(&state);
        }
    }
}

fn ship_shard(
    shipper: &mut ShardShipper,
    batches: &[LogBatch],
    is_due: bool,
    is_last: bool,
) -> Result<(), ObjectError> {
    batches.iter().try_for_each(|batch| shipper.push(batch))?;
    match (is_due, is_last) {
        (_, true) => shipper.finish(),
        (true, false) => shipper.finish_due(),
        (false, false) => Ok(()),
    }
}

impl State<'_> {
    fn fail(&mut self, error: ShipError) {
        self.failed.get_or_insert(error);
    }

    fn next_work(&mut self) -> Work {
        if self.failed.is_some() {
            return Work::End;
        }
        let now = Instant::now();
        let is_last = self.end_of_input && self.dispatched == self.blocks_read;
        for shard in 0..self.shards.len() {
            let Shard { due, is_done, .. } = &self.shards[shard];
            if due.is_some_and(|due| due <= now) || (is_last && !is_done) {
                self.make_ready(shard);
            }
        }
        if let Some(shard) = self.ready.pop_front() {
            return self.take(shard, now, is_last);
        }
        match self.blocks.pop_front() {
            Some((number, block)) => Work::Parse(number, block),
            None if is_last && self.shards.iter().all(|shard| shard.is_done) => Work::End,
            None => Work::Wait(self.shards.iter().filter_map(|shard| shard.due).min()),
        }
    }

    /// Queues an idle shard for the workers, unless it is already queued.
    fn make_ready(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        if shard.shipper.is_some() && !shard.is_ready {
            shard.is_ready = true;
            self.ready.push_back(number);
        }
    }

    fn take(&mut self, number: usize, now: Instant, is_last: bool) -> Work {
        let shard = &mut self.shards[number];
        shard.is_ready = false;
        let is_due = shard.due.is_some_and(|due| due <= now);
        shard.due = None;
        match shard.shipper.take() {
            Some(shipper) => Work::Ship {
                shard: number,
                shipper,
                batches: std::mem::take(&mut shard.queue),
                is_due,
                is_last,
            },
            None => Work::Wait(None),
        }
    }

    fn put_back(&mut self, number: usize, shipper: Box<ShardShipper>, is_last: bool) {
        let shard = &mut self.shards[number];
        shard.due = shipper.due();
        shard.shipper = Some(shipper);
        shard.is_done = is_last;
        if !shard.queue.is_empty() {
            self.make_ready(number);
        }
    }

    /// Dispatches parsed blocks to the shards, in input order.
    fn dispatch(&mut self, strict: bool, track_keys: bool) {
        while let Some((path, parsed)) = self.parsed.remove(&self.dispatched) {
            self.dispatched += 1;
            let before = match self.position.take() {
                Some((file, lines)) if Arc::ptr_eq(&file, &path) => lines,
                _ => 0,
            };
            for reject in &parsed.rejects {
                self.reject(&path, before + reject.line as u64 + 1, reject, strict);
            }
            if let Err(error) = self.rejects.flush() {
                self.fail(error.into());
            }
            for (shard, batch) in parsed.batches {
                self.queued_bytes += batch.bytes();
                self.outcome.record(&batch, track_keys);
                self.shards[shard as usize].queue.push(batch);
                self.make_ready(shard as usize);
            }
            self.position = Some((path, before + parsed.lines as u64));
        }
    }

    fn reject(&mut self, path: &Path, line: u64, reject: &Reject, strict: bool) {
        if strict {
            let file = path.display().to_string();
            self.fail(ShipError::Malformed { file, line, reason: reject.reason.clone() });
        } else if let Err(error) = self.rejects.add(path, line, reject) {
            self.fail(error.into());
        }
    }
}

impl Outcome {
    fn record(&mut self, batch: &LogBatch, track_keys: bool) {
        self.has_tags |= batch.groups.iter().any(|group| !group.tags.is_empty());
        self.has_nanos |= !batch.nanos.is_empty();
        if track_keys {
            let tags =
                batch.groups.iter().flat_map(|group| &group.tags).map(|tag| format!("__tag__:{}", tag.key));
            self.keys.extend(tags.chain(batch.keys.iter().cloned()));
        }
    }
}
