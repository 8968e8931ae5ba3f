//! Ships inputs: reads blocks of lines, parses them, and hands the logs to their shards, on as many
//! threads as asked for.
//!
//! A thread reads; workers take whatever is to be done next: logs of a shard that nobody is at (in
//! the order of the input), or else a block to parse. So one shard is worked on by one thread at a
//! time, with a stage instance of its own, and all cores are busy as soon as there are several
//! shards. What is read and not yet shipped is bounded, whatever the input's size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::LogBatch;
use crate::input::{Block, Blocks, InputError};
use crate::ndjson::{Parsed, Parser, Reject, Settings};
use crate::object::{ObjectError, Shipped};
use crate::rejects::{RejectError, Rejects};
use crate::shard::{Plan, ShardShipper};
use crate::time;

/// Bytes of values that may wait for their shards.
const QUEUED: usize = 16 << 20;

/// Why shipping stopped. The objects that were shipped by then are whole.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// An input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// An object failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A line is no log, and was to stop everything.
    #[error("{file}:{line}: {reason} (--strict: what was not a whole object by then was given up)")]
    Malformed {
        /// The file.
        file: String,
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The rejects can't be written.
    #[error(transparent)]
    Rejects(#[from] RejectError),
    /// A thread of logship itself ended early.
    #[error("a worker panicked; what it says above is a defect of logship: please report it")]
    Panicked,
}

/// How to ship.
#[derive(Debug, Clone)]
pub struct Options {
    /// How lines become logs, and which shard a log is of.
    pub settings: Settings,
    /// How many threads parse and run stages.
    pub threads: usize,
    /// Whether a line that is no log stops everything.
    pub strict: bool,
    /// Whether the keys that are seen are to be told.
    pub track_keys: bool,
}

/// What was shipped.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The objects, in the order in which they were finished.
    pub objects: Vec<Shipped>,
    /// Logs that the rule's transformers left out.
    pub filtered: u64,
    /// Bytes of lines that were read.
    pub input_bytes: u64,
    /// The keys of fields and tags that were seen, where they were asked for.
    pub keys: BTreeSet<String>,
    /// Whether a log has tags.
    pub tags: bool,
    /// Whether a log has a part of a second.
    pub nanos: bool,
    /// The end of what was read, where a signal stopped it: all before it was shipped.
    pub stopped_at: Option<String>,
}

/// Tells how far shipping is.
pub trait Progress: Send + Sync {
    /// `bytes` more bytes of lines were parsed.
    fn parsed(&self, bytes: u64);
    /// An object was shipped.
    fn shipped(&self, object: &Shipped);
}

/// What the threads share.
struct Shared<'a> {
    state: Mutex<State<'a>>,
    /// Tells the workers that something may be to be done.
    changed: Condvar,
    /// Tells the reader that there may be room: it has no need to look whenever a worker has.
    room: Condvar,
    options: &'a Options,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

struct State<'a> {
    /// Blocks that were read, with their numbers.
    blocks: VecDeque<(u64, Block)>,
    /// How many blocks were read.
    read: u64,
    read_all: bool,
    /// Whether a signal ended the reading.
    stopped: bool,
    /// Blocks that were parsed before one that was read before them.
    parsed: BTreeMap<u64, (Arc<Path>, Parsed)>,
    /// How many blocks were handed to the shards.
    handed: u64,
    /// The file of the last block handed to the shards, and how many of its lines were.
    place: Option<(Arc<Path>, u64)>,
    queued: usize,
    shards: Vec<Shard>,
    /// Shards that have logs or are due, and that nobody is at.
    ready: VecDeque<usize>,
    rejects: &'a mut Rejects,
    outcome: Outcome,
    failed: Option<ShipError>,
}

struct Shard {
    /// None while a worker is at it.
    shipper: Option<Box<ShardShipper>>,
    queue: Vec<LogBatch>,
    /// When its open object must be finished.
    due: Option<Instant>,
    is_ready: bool,
    is_done: bool,
}

/// What a worker does next.
enum Work {
    Parse(u64, Block),
    Ship { shard: usize, shipper: Box<ShardShipper>, batches: Vec<LogBatch>, cut: bool, last: bool },
    Wait(Option<Instant>),
    End,
}

/// Ships all blocks. `stop` ends the reading; what was read by then is shipped.
///
/// # Errors
/// The first thing that went wrong, beside what was shipped until then. Objects that were open are
/// given up: no part of them is left.
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
            read: 0,
            read_all: false,
            stopped: false,
            parsed: BTreeMap::new(),
            handed: 0,
            place: None,
            queued: 0,
            shards,
            ready: VecDeque::new(),
            rejects,
            outcome: Outcome::default(),
            failed: None,
        }),
        changed: Condvar::new(),
        room: Condvar::new(),
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
        let (path, lines) = state.place.unwrap_or_else(|| (Path::new("-").into(), 0));
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

    /// Reads blocks as long as there is room for them.
    fn read(&self, mut blocks: Blocks) {
        loop {
            let mut state = self.lock();
            while !self.has_room(&state) {
                state = self.wait(&self.room, state, None);
            }
            drop(state);
            let stop = || self.stop.load(Ordering::Relaxed) || self.lock().failed.is_some();
            let next = if stop() { Ok(None) } else { blocks.next_block(&stop) };
            let mut state = self.lock();
            state.stopped = self.stop.load(Ordering::Relaxed);
            match next {
                Ok(Some(block)) => {
                    let number = state.read;
                    state.read += 1;
                    state.blocks.push_back((number, block));
                }
                Ok(None) => state.read_all = true,
                Err(error) => state.fail(error.into()),
            }
            let end = state.read_all || state.failed.is_some();
            drop(state);
            self.changed.notify_all();
            if end {
                return;
            }
        }
    }

    /// Whether the reader may go on: to the next block, or to its end because another one failed.
    fn has_room(&self, state: &State<'_>) -> bool {
        let waiting = state.blocks.len() + state.parsed.len();
        state.failed.is_some() || (waiting <= 3 * self.options.threads && state.queued <= QUEUED)
    }

    /// Wakes those for whom something may have changed.
    fn tell(&self, state: &State<'_>) {
        self.changed.notify_all();
        if self.has_room(state) {
            self.room.notify_one();
        }
    }

    /// Does what is to be done until nothing is.
    fn work(&self) {
        let _bell = PanicBell(self);
        let mut parser = Parser::new(self.options.settings.clone());
        let mut state = self.lock();
        loop {
            match state.next_work() {
                Work::End => {
                    drop(state);
                    self.changed.notify_all();
                    return;
                }
                Work::Wait(until) => state = self.wait(&self.changed, state, until),
                Work::Parse(number, block) => {
                    self.tell(&state);
                    drop(state);
                    // A stream may go on for days.
                    parser.set_default_time(time::now());
                    let parsed = parser.parse(&block.bytes);
                    self.progress.parsed(block.bytes.len() as u64);
                    state = self.lock();
                    state.outcome.input_bytes += block.bytes.len() as u64;
                    state.parsed.insert(number, (block.path, parsed));
                    state.hand_out(self.options.strict, self.options.track_keys);
                    self.tell(&state);
                }
                Work::Ship { shard, mut shipper, batches, cut, last } => {
                    drop(state);
                    let result = ship_shard(&mut shipper, &batches, cut, last);
                    let (shipped, filtered) = (shipper.take_shipped(), shipper.take_left_out());
                    shipped.iter().for_each(|object| self.progress.shipped(object));
                    state = self.lock();
                    state.queued -= batches.iter().map(LogBatch::bytes).sum::<usize>();
                    state.outcome.objects.extend(shipped);
                    state.outcome.filtered += filtered;
                    state.put_back(shard, shipper, last);
                    if let Err(error) = result {
                        state.fail(error.into());
                    }
                    self.tell(&state);
                }
            }
        }
    }

    fn wait<'g>(
        &self,
        reason: &Condvar,
        state: MutexGuard<'g, State<'a>>,
        until: Option<Instant>,
    ) -> MutexGuard<'g, State<'a>> {
        // Now and then even without a reason: a signal to stop wakes nobody.
        let longest = Duration::from_secs(1);
        let time =
            until.map_or(longest, |until| until.saturating_duration_since(Instant::now()).min(longest));
        reason.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Ends the others when a worker panics: they would wait for it for ever.
struct PanicBell<'s, 'a>(&'s Shared<'a>);

impl Drop for PanicBell<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut state = self.0.lock();
            state.fail(ShipError::Panicked);
            self.0.tell(&state);
        }
    }
}

fn ship_shard(
    shipper: &mut ShardShipper,
    batches: &[LogBatch],
    cut: bool,
    last: bool,
) -> Result<(), ObjectError> {
    batches.iter().try_for_each(|batch| shipper.push(batch))?;
    match (cut, last) {
        (_, true) => shipper.cut(),
        (true, false) => shipper.cut_due(),
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
        let last = self.read_all && self.handed == self.read;
        for shard in 0..self.shards.len() {
            let Shard { due, is_done, .. } = &self.shards[shard];
            if due.is_some_and(|due| due <= now) || (last && !is_done) {
                self.make_ready(shard);
            }
        }
        if let Some(shard) = self.ready.pop_front() {
            return self.take(shard, now, last);
        }
        match self.blocks.pop_front() {
            Some((number, block)) => Work::Parse(number, block),
            None if last && self.shards.iter().all(|shard| shard.is_done) => Work::End,
            None => Work::Wait(self.shards.iter().filter_map(|shard| shard.due).min()),
        }
    }

    /// Puts a shard into the queue, unless it is there or a worker is at it.
    fn make_ready(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        if shard.shipper.is_some() && !shard.is_ready {
            shard.is_ready = true;
            self.ready.push_back(number);
        }
    }

    fn take(&mut self, number: usize, now: Instant, last: bool) -> Work {
        let shard = &mut self.shards[number];
        shard.is_ready = false;
        let cut = shard.due.is_some_and(|due| due <= now);
        shard.due = None;
        match shard.shipper.take() {
            Some(shipper) => {
                Work::Ship { shard: number, shipper, batches: std::mem::take(&mut shard.queue), cut, last }
            }
            None => Work::Wait(None),
        }
    }

    fn put_back(&mut self, number: usize, shipper: Box<ShardShipper>, last: bool) {
        let shard = &mut self.shards[number];
        shard.due = shipper.due();
        shard.shipper = Some(shipper);
        shard.is_done = last;
        if !shard.queue.is_empty() {
            self.make_ready(number);
        }
    }

    /// Hands what was parsed to the shards, in the order in which it was read.
    fn hand_out(&mut self, strict: bool, track_keys: bool) {
        while let Some((path, parsed)) = self.parsed.remove(&self.handed) {
            self.handed += 1;
            let before = match self.place.take() {
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
                self.queued += batch.bytes();
                self.outcome.saw(&batch, track_keys);
                self.shards[shard as usize].queue.push(batch);
                self.make_ready(shard as usize);
            }
            self.place = Some((path, before + parsed.lines as u64));
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
    fn saw(&mut self, batch: &LogBatch, track_keys: bool) {
        self.tags |= batch.groups.iter().any(|group| !group.tags.is_empty());
        self.nanos |= !batch.nanos.is_empty();
        if track_keys {
            let tags =
                batch.groups.iter().flat_map(|group| &group.tags).map(|tag| format!("__tag__:{}", tag.key));
            self.keys.extend(tags.chain(batch.keys.iter().cloned()));
        }
    }
}
