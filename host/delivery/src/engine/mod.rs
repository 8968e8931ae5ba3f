//! Shipping: the rules of a Logstore, and the tasks that write its logs to destinations.
//!
//! A shard of a rule has a due **task** when its backlog fills an object of the rule's size, or when its oldest log
//! reaches the rule's time limit. A task is a range of the shard, an id, an object key, and the plan that determines
//! the object's bytes. The backlog takes no memory: a worker reads the logs from the store when it runs the task. The
//! memory budget limits the number of workers.
//!
//! # Layout
//! | module | content |
//! |---|---|
//! | [`settings`] | resource limits and times |
//! | `schedule` | due tasks and retry delays, as pure functions |
//! | `queue` | queued jobs over all rules and shards, in round-robin order |
//! | `plan` | a rule with its stages and destination |
//! | `circuit_breaker` | rules whose stage fails every task |
//! | `create` | creation of due tasks |
//! | `attempt` | one attempt of a task |
//! | `objects`, `provenance` | objects made in this process, and their metadata |
//! | `call` | objects made by a function |
//! | `error` | errors of tasks |
//! | `step` | points at which tests abort the process |
//! | `preview` | past tasks made once more with another stage |
//! | this file | the scheduler and its threads |
//!
//! # Nothing lost, nothing twice
//! | on disk | then |
//! |---|---|
//! | the task: its largest range, its plan, its object key | the logs are encoded into one or more unnamed files |
//! | the manifest: the end of the range, the digest of each object | the objects are published under their keys, unless they exist |
//! | success and the checkpoint | the task is listed for two days |
//!
//! If a function makes the object, the final range is on disk before the call, and the manifest after it.
//!
//! After a crash, running tasks are retried. Everything that determines the bytes is on disk, so a retry makes the same
//! objects under the same keys, and skips those that are published. Each shard has at most one task whose end is not
//! known. Objects are uploaded while the next one is made.

mod attempt;
mod call;
mod circuit_breaker;
mod create;
mod error;
mod objects;
pub mod plan;
mod provenance;
mod queue;
mod schedule;
mod step;

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use logship_logstore::{ShippingRule, Store, StoreError, Task};
use tokio::runtime::Handle;

use logship_config::shipping::Shipping;
use plan::{Destination, PlanCache};
pub use plan::{PlanError, PlanRecord};
use queue::{ConcurrencyLimit, Job, Queue};
use step::Step;

use crate::executor;
use crate::executor::Executor;
use crate::pipeline::Pipeline;
use logship_config::destination::DestinationConfig;
use logship_config::rule::Rule;
use logship_config::siem_rule::SIEM;
use logship_registry::Registry;
use logship_sink::object::ObjectInfo;
use logship_source::shard_reader::ShardReader;

/// Interval of scans for due tasks, unless the scheduler is woken earlier.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which old tasks are deleted.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(600);

/// Interval at which orphaned tasks are recovered.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(15);

/// Retention of permanently failed tasks, in seconds. Their logs are usually deleted by then.
const KEEP_FAILED_SECONDS: u64 = 30 * 86_400;

/// Concurrent uploads per object being encoded.
const UPLOADS_PER_WORKER: usize = 2;

/// Longest wait for running uploads at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Schedules and runs the tasks of a store's rules.
#[derive(Debug)]
pub struct Shipper {
    pub store: Arc<Store>,
    pub plans: PlanCache,
    settings: Shipping,
    /// Concurrency limits of the function destinations.
    functions: Vec<ConcurrencyLimit>,
    runtime: Handle,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Numbers of the rules with a task that failed in a stage.
    suspect_rules: Mutex<HashSet<i64>>,
    /// Number of objects being encoded.
    encoding: AtomicUsize,
    stopping: AtomicBool,
    /// Creation time of the last task, in Unix nanoseconds.
    last_id: AtomicU64,
    last_scan: Mutex<Option<Instant>>,
    stop_at: Option<String>,
}

/// A permit to encode an object. Released on drop.
struct EncodingPermit<'a>(&'a Shipper);

impl Drop for EncodingPermit<'_> {
    fn drop(&mut self) {
        // Under the lock, under which waiting threads check the counter.
        let _queue = self.0.lock();
        self.0.encoding.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

/// The worker threads of a shipper.
#[derive(Debug)]
pub struct Threads {
    shipper: Arc<Shipper>,
    threads: Vec<JoinHandle<()>>,
}

impl Shipper {
    /// Creates a shipper for a store. `data` is the data folder; `destinations` are those that rules can name.
    pub fn new(
        store: Arc<Store>,
        registry: Registry,
        destinations: BTreeMap<String, DestinationConfig>,
        settings: Shipping,
        data: &Path,
        runtime: Handle,
    ) -> Result<Self, std::io::Error> {
        let spool = settings.spool.clone().unwrap_or_else(|| data.join("spool"));
        std::fs::create_dir_all(&spool)?;
        let limit = |(name, config): (&String, &DestinationConfig)| match config {
            DestinationConfig::Function(function) => {
                Some(ConcurrencyLimit { destination: name.clone(), calls: function.calls })
            }
            _ => None,
        };
        Ok(Self {
            functions: destinations.iter().filter_map(limit).collect(),
            store,
            plans: PlanCache::new(registry, destinations, spool, runtime.clone()),
            settings,
            runtime,
            queue: Mutex::default(),
            changed: Condvar::new(),
            suspect_rules: Mutex::default(),
            encoding: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            last_id: AtomicU64::new(0),
            last_scan: Mutex::new(None),
            stop_at: std::env::var("LOGSHIP_TEST_STOP_AT").ok(),
        })
    }

    /// Recovers the tasks that were running when the last process ended, and starts the workers.
    pub fn start(self: &Arc<Self>) -> Result<Threads, StoreError> {
        self.recover_orphans()?;
        self.restore_circuit_breakers();
        let workers = self.settings.workers();
        let spawn = |number| {
            let shipper = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("ship-{number}"));
            thread.spawn(move || shipper.run_worker())
        };
        // Each function call blocks a thread.
        let calls: usize = self.functions.iter().map(|limit| limit.calls).sum();
        let threads = (0..workers * (1 + UPLOADS_PER_WORKER) + calls).map(spawn);
        let threads = threads.filter_map(|thread| {
            thread.inspect_err(|error| tracing::error!(%error, "can't start a worker thread")).ok()
        });
        Ok(Threads { shipper: Arc::clone(self), threads: threads.collect() })
    }

    /// Runs all due tasks on this thread, and returns when none is left. For tests and single-threaded callers.
    pub fn drain(&self) -> Result<(), StoreError> {
        let mut reader = ShardReader::default();
        loop {
            let mut queue = self.lock();
            queue.scan(&self.store, &self.settings, &self.functions)?;
            let Some(job) = queue.pop(usize::MAX) else { return Ok(()) };
            drop(queue);
            self.encoding.fetch_add(1, Ordering::Relaxed);
            self.run_job(&job, &mut reader);
        }
    }

    /// Wakes the scheduler for a scan.
    pub fn wake(&self) {
        *self.last_scan.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_one();
    }

    /// The reason why a rule creates no tasks, if it does not.
    pub fn problem(&self, rule: i64) -> Option<String> {
        self.lock().problem(rule).cloned()
    }

    /// Checks that a registry has the stages of a rule, and that they accept its settings.
    pub fn check_stages(rule: &ShippingRule, registry: &Registry) -> Result<(), PlanError> {
        let rule = PlanCache::rule(&rule.name, &rule.target, &rule.configuration)?;
        Ok(Pipeline::new(registry, &rule).map(drop)?)
    }

    /// Checks a rule: its stages exist and accept their settings, and its destination exists.
    pub fn check(&self, project: &str, logstore: &str, rule: &Rule) -> Result<(), PlanError> {
        self.plans.build(project, logstore, rule).map(drop)
    }

    /// Checks that a rule can write to its destination. Blocks.
    pub fn probe(&self, rule: &Rule) -> Result<(), PlanError> {
        let Destination { executor, sink } = self.plans.destination(rule)?;
        if let Executor::Function(function) = &executor {
            let spec = executor::spec(rule, &Pipeline::new(self.plans.registry(), rule)?);
            function.probe(&spec)?;
            if !function.has_store() {
                return Ok(());
            }
        }
        Ok(self.runtime.block_on(sink.probe(&rule.prefix))?)
    }

    /// Finds an object of a task at its destination. Reads the object. Blocks.
    pub fn find(
        &self,
        task: &Task,
        object: &str,
        now: Option<&Rule>,
    ) -> Result<Option<ObjectInfo>, PlanError> {
        let content = self.store.plan(task.plan).map_err(|_| PlanError::Gone)?;
        Ok(self.plans.restore(&content, now)?.sink.find(object)?)
    }

    /// Deletes the components that no task, alias or rule uses. Blocks.
    pub fn collect_garbage(&self) {
        let catalog = self.store.catalog();
        let versions = catalog.stages().aliases.values().flat_map(|name| &name.versions);
        let mut needed: HashSet<String> = versions.map(|version| version.digest.clone()).collect();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        rules.for_each(|rule| needed.extend(digests(&rule.configuration.to_string())));
        let plans = match self.store.plans() {
            Ok(plans) => plans,
            Err(error) => return tracing::error!(%error, "can't determine which components are in use"),
        };
        plans.iter().for_each(|plan| needed.extend(digests(plan)));
        match self.registry().collect_garbage(&needed) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "deleted unused components"),
            Err(error) => tracing::error!(%error, "can't delete unused components"),
        }
    }

    /// The stage registry.
    pub fn registry(&self) -> &Registry {
        self.plans.registry()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn run_worker(&self) {
        let mut reader = ShardReader::default();
        while let Some(job) = self.next_job() {
            self.run_job(&job, &mut reader);
        }
    }

    fn run_job(&self, job: &Job, reader: &mut ShardReader) {
        let permit = EncodingPermit(self);
        let work = || match job {
            Job::Create(due_task) => self.create(due_task, reader, permit),
            Job::Retry(_, task) => self.retry(*task, reader, permit),
        };
        let failed = std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            // Recovery retries the task; this thread goes on.
            tracing::error!(?job, "a worker panicked: please report this bug of logship");
            if let Job::Create(due_task) = job {
                self.lock().block(
                    due_task.rule.number(),
                    "a worker panicked: see the log, and please report this bug of logship".into(),
                    u64::MAX,
                );
                self.lock().release_shard(due_task.key());
            }
            None
        });
        self.lock().finish(job.rule(), failed);
        self.changed.notify_one();
    }

    /// Recovers orphaned tasks: they are running on disk, but have no job. The last process left them, or their result
    /// could not be recorded.
    fn recover_orphans(&self) -> Result<(), StoreError> {
        let running = self.store.running_tasks()?;
        let catalog = self.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        let siem_rules: HashSet<i64> =
            rules.filter(|rule| rule.target == SIEM).map(ShippingRule::number).collect();
        let mut queue = self.lock();
        for (rule, task) in running.into_iter().filter(|(rule, _)| !siem_rules.contains(rule)) {
            queue.retry(rule, task);
        }
        drop(queue);
        self.wake();
        Ok(())
    }

    /// Waits for a job and a permit to encode. `None` at shutdown.
    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if self.is_stopping() {
                return None;
            }
            if self.is_scan_due()
                && let Err(error) = queue.scan(&self.store, &self.settings, &self.functions)
            {
                tracing::error!(%error, "can't scan for logs to ship");
            }
            if self.encoding.load(Ordering::Relaxed) < self.settings.workers()
                && let Some(job) = queue.pop(self.settings.workers() * (1 + UPLOADS_PER_WORKER))
            {
                self.encoding.fetch_add(1, Ordering::Relaxed);
                // Another worker may find another job.
                self.changed.notify_one();
                return Some(job);
            }
            queue = self.changed.wait_timeout(queue, SCAN_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_scan_due(&self) -> bool {
        let mut last = self.last_scan.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= SCAN_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Aborts the process, as a crash would, if a test set `LOGSHIP_TEST_STOP_AT` to this step.
    fn stop_point(&self, step: Step) {
        if self.stop_at.as_ref().is_some_and(|stop| *stop == format!("{step:?}")) {
            tracing::error!(?step, "aborted by LOGSHIP_TEST_STOP_AT");
            std::process::abort();
        }
    }

    /// Recovers orphaned tasks and deletes old ones, periodically and forever.
    async fn run_maintenance(self: Arc<Self>) {
        let mut last_cleanup = Instant::now();
        loop {
            tokio::time::sleep(RECOVERY_INTERVAL).await;
            let shipper = Arc::clone(&self);
            let maintain = move || {
                shipper.plans.evict_unused();
                shipper.registry().evict_unused();
                shipper.recover_orphans()
            };
            let recovered = tokio::task::spawn_blocking(maintain).await;
            if let Ok(Err(error)) = recovered {
                tracing::error!(%error, "can't recover orphaned tasks");
            }
            if last_cleanup.elapsed() >= CLEANUP_INTERVAL {
                last_cleanup = Instant::now();
                self.delete_old_tasks().await;
                let shipper = Arc::clone(&self);
                let _ = tokio::task::spawn_blocking(move || shipper.collect_garbage()).await;
            }
        }
    }

    async fn delete_old_tasks(&self) {
        let ago = |seconds: u64| self.store.clock().saturating_sub(seconds * 1_000_000);
        let (kept, failed) =
            (self.settings.keep_tasks_seconds, self.settings.keep_tasks_seconds.max(KEEP_FAILED_SECONDS));
        loop {
            match self.store.delete_old_tasks(ago(kept), ago(failed)).await {
                Ok(count) if count == Store::TASK_DELETE_BATCH => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(%error, "can't delete old tasks");
                    break;
                }
            }
        }
        let catalog = self.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        let rules: HashSet<i64> = rules.map(ShippingRule::number).collect();
        self.plans.retain_rules(|rule| rules.contains(&rule));
    }
}

/// All substrings of a text that may be the digest of a component.
fn digests(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned)
}

impl Threads {
    /// Recovers orphaned tasks and deletes old ones, periodically and forever.
    pub async fn run_maintenance(shipper: Arc<Shipper>) {
        shipper.run_maintenance().await;
    }

    /// Stops the workers. Abandons objects being encoded, and waits a while for running uploads. The next start resumes
    /// unfinished tasks. Blocks.
    pub fn end(self) {
        let Self { shipper, threads } = self;
        shipper.stopping.store(true, Ordering::Relaxed);
        shipper.changed.notify_all();
        let begun = Instant::now();
        while begun.elapsed() < SHUTDOWN_TIMEOUT && threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = threads.iter().filter(|thread| !thread.is_finished()).count();
        if left > 0 {
            tracing::warn!(
                left,
                "uploads did not finish before shutdown; the next start resumes their tasks"
            );
        }
    }
}
