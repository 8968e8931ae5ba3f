//! The driver of batches: a pool of threads that runs due tasks.
//!
//! A shard of a rule has a due task when its backlog fills an output of the rule's size, or when its oldest log reaches
//! the rule's time limit. The backlog takes no memory: a worker reads the logs from the store when it runs the task. The
//! memory budget limits the number of workers. Each shard has at most one task whose end is not known. Outputs are
//! uploaded while the next one is made.
//!
//! # Layout
//! - This file: the pool and its threads. `queue`: queued jobs over all rules and shards, in round-robin order.
//! - `schedule`: due tasks, as pure functions. `create`: creates them. `attempt`: one attempt of a task.
//! - `logs`: the logs of a task. `seal`: sealed tasks, for a backup.

mod attempt;
mod create;
mod logs;
mod queue;
mod schedule;
mod seal;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use logship_logstore::StoreError;
use logship_source::shard_reader::ShardReader;

pub use self::attempt::Attempt;
pub use self::logs::LogSample;
pub(crate) use self::logs::TakeLogs;
pub use self::queue::ConcurrencyLimit;
pub use self::schedule::BatchPolicy;
pub use self::seal::Sealed;

use self::queue::{Job, Queue};
use crate::engine::{DeliveryEngine, panics};

/// Interval of scans for due tasks, unless the scheduler is woken earlier.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Delay before a rule creates tasks again after a panic, in seconds.
const PANIC_RETRY_SECONDS: u64 = 30;

/// Concurrent uploads per object being encoded.
const UPLOADS_PER_WORKER: usize = 2;

/// The state of the pool.
#[derive(Debug, Default)]
pub(super) struct Pool {
    queue: Mutex<Queue>,
    pub(super) changed: Condvar,
    /// Number of outputs being encoded.
    encoding: AtomicUsize,
    pub(super) stopping: AtomicBool,
    /// Locked while a task is created, and exclusively while all logs are sealed.
    creation: RwLock<()>,
    last_scan: Mutex<Option<Instant>>,
}

/// A permit to encode an output. Released on drop.
struct EncodingPermit<'a>(&'a DeliveryEngine);

impl Drop for EncodingPermit<'_> {
    fn drop(&mut self) {
        // Under the lock, under which waiting threads check the counter.
        let _queue = self.0.lock();
        self.0.pool.encoding.fetch_sub(1, Ordering::Relaxed);
        self.0.pool.changed.notify_all();
    }
}

impl DeliveryEngine {
    /// Recovers orphaned tasks, and starts the workers.
    pub(super) fn start_pool(self: &Arc<Self>) -> Result<Vec<JoinHandle<()>>, StoreError> {
        self.recover_orphans()?;
        self.restore_circuit_breakers();
        let workers = self.settings.workers();
        let spawn = |number| {
            let engine = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("ship-{number}"));
            thread.spawn(move || engine.run_worker())
        };
        // Each such call blocks a thread.
        let limits = self.batches.iter().flat_map(|work| work.concurrency_limits());
        let calls: usize = limits.map(|limit| limit.calls).sum();
        let threads = (0..workers * (1 + UPLOADS_PER_WORKER) + calls).map(spawn);
        let threads = threads.filter_map(|thread| {
            thread.inspect_err(|error| tracing::error!(%error, "can't start a worker thread")).ok()
        });
        Ok(threads.collect())
    }

    /// Runs all due batches on this thread, and returns when none is left. For tests and single-threaded callers.
    ///
    /// # Errors
    /// When the store fails.
    pub fn drain(&self) -> Result<(), StoreError> {
        let mut reader = ShardReader::default();
        loop {
            let mut queue = self.lock();
            queue.scan(self)?;
            let Some(job) = queue.pop(usize::MAX) else { return Ok(()) };
            drop(queue);
            self.pool.encoding.fetch_add(1, Ordering::Relaxed);
            self.run_job(&job, &mut reader);
        }
    }

    /// Wakes the pool for a scan.
    pub(super) fn wake_pool(&self) {
        *self.pool.last_scan.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.pool.changed.notify_one();
    }

    /// True if the engine is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.pool.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.pool.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs until shutdown. A panic of the scheduler costs a moment, and not the thread.
    fn run_worker(&self) {
        let mut reader = ShardReader::default();
        let mut work = || {
            while let Some(job) = self.next_job() {
                self.run_job(&job, &mut reader);
            }
        };
        while let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(&mut work)) {
            let panic = panics::message(&*panic);
            tracing::error!(panic, "the scheduler panicked: please report this bug of logship");
            std::thread::sleep(SCAN_INTERVAL);
        }
    }

    fn run_job(&self, job: &Job, reader: &mut ShardReader) {
        let permit = EncodingPermit(self);
        let work = || match job {
            Job::Create(due_task) => self.create(due_task, reader, permit),
            Job::Retry(_, task) => self.retry(*task, reader, permit),
        };
        let failed = std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            self.recover_job(job, &panics::message(&*panic));
            None
        });
        self.lock().finish(job.rule(), failed);
        self.pool.changed.notify_one();
    }

    /// Frees what a job held that panicked outside of its task's steps. The task stays running on disk, and recovery
    /// retries it soon, because it has no job any more.
    fn recover_job(&self, job: &Job, panic: &str) {
        tracing::error!(rule = job.rule(), panic, "a worker panicked: please report this bug of logship");
        match job {
            Job::Create(due_task) => {
                let until = self.store.clock() / 1_000_000 + PANIC_RETRY_SECONDS;
                let reason = format!("a worker panicked, which is a bug of logship: {panic}");
                self.pauses.pause(due_task.rule.number(), reason, until);
                self.lock().release_shard(due_task.key());
            }
            Job::Retry(_, task) => self.lock().unmark_task(*task),
        }
    }

    /// Waits for a job and a permit to encode. `None` at shutdown.
    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if self.is_stopping() {
                return None;
            }
            if self.is_scan_due()
                && let Err(error) = queue.scan(self)
            {
                tracing::error!(%error, "can't scan for logs to ship");
            }
            if self.pool.encoding.load(Ordering::Relaxed) < self.settings.workers()
                && let Some(job) = queue.pop(self.settings.workers() * (1 + UPLOADS_PER_WORKER))
            {
                self.pool.encoding.fetch_add(1, Ordering::Relaxed);
                // Another worker may find another job.
                self.pool.changed.notify_one();
                return Some(job);
            }
            let waited = self.pool.changed.wait_timeout(queue, SCAN_INTERVAL);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_scan_due(&self) -> bool {
        let mut last = self.pool.last_scan.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= SCAN_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
