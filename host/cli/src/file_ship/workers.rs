//! The threads of a run: one that reads, and workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::shard::ShardShipper;
use super::state::{ParsedBlock, State, Work};
use super::{Options, Progress, ShipError};
use crate::input::Blocks;
use logship_batch::batch::LogBatch;
use logship_batch::parser::Parser;
use logship_batch::time;
use logship_delivery::objects::object::ObjectError;

/// The largest size of the shards' queues, in bytes of values.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// The state that the threads share.
pub(super) struct Shared<'a> {
    state: Mutex<State<'a>>,
    /// Wakes workers when work may be available.
    work_ready: Condvar,
    /// Wakes the reader when the queues may have capacity.
    capacity: Condvar,
    options: &'a Options,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        state: State<'a>,
        options: &'a Options,
        progress: &'a dyn Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        let (work_ready, capacity) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), work_ready, capacity, options, progress, stop }
    }

    /// Returns the state after all threads ended.
    pub(super) fn into_state(self) -> State<'a> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads blocks while the queues have capacity.
    pub(super) fn read(&self, mut blocks: Blocks) {
        loop {
            let mut state = self.lock();
            while !self.has_capacity(&state) {
                state = self.wait(&self.capacity, state, None);
            }
            drop(state);
            let stop = || self.stop.load(Ordering::Relaxed) || self.lock().failed.is_some();
            let next = if stop() { None } else { blocks.next_block(&stop) };
            let mut state = self.lock();
            state.stopped = self.stop.load(Ordering::Relaxed);
            match next {
                Some(block) => {
                    let number = state.blocks_read;
                    state.blocks_read += 1;
                    state.blocks.push_back((number, block));
                }
                None => state.end_of_input = true,
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
    pub(super) fn work(&self) {
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
                    let parsed = ParsedBlock::new(&block, &mut parser, self.options);
                    self.progress.parsed(block.bytes());
                    state = self.lock();
                    state.outcome.input_bytes += block.bytes();
                    state.parsed.insert(number, parsed);
                    state.dispatch(self.options.strict);
                    self.notify(&state);
                }
                Work::Ship { shard, mut shipper, batches, is_due, is_last } => {
                    drop(state);
                    let result = ship_shard(&mut shipper, &batches, is_due, is_last);
                    let (shipped, filtered) = (shipper.take_shipped(), shipper.take_filtered());
                    shipped.iter().for_each(|object| self.progress.shipped(object));
                    state = self.lock();
                    state.queued_bytes -= batches.iter().map(LogBatch::bytes).sum::<usize>();
                    shipped.iter().for_each(|object| state.outcome.lost.merge(object.lost.clone()));
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
