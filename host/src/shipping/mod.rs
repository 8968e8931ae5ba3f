//! Shipping: the rules of a Logstore, and the tasks that bring its logs to where they are to go.
//!
//! Each shard of each rule waits until there are logs for an object of the rule's size, or until the first of them has
//! waited for the rule's time. Then a **task** is made: a range of the shard, an id, the key of its object, and the
//! plan that decides its bytes. What waits takes no memory: logs are read from the store when their task is done, by
//! as many workers as the memory is for.
//!
//! # Layout
//! - [`settings`]: how much it may take, and its times. `schedule`: when a task is due, as pure rules.
//! - `queue`: what is due, over all rules and shards, in turn. `plan`: rule, stages and destination, put together.
//! - `hold`: rules whose stage fails every task. `make`: tasks that are due, made. `work`: one task, step by step; `objects`:
//!   the steps where its objects are made here, with their `provenance`; `call`: where a function makes the object; `error`:
//!   why it fails; `step`: where tests end it. `trial`: tasks that are made once more, for nothing but to see what a stage would change. This file: the
//!   threads.
//!
//! # Nothing lost, nothing twice
//! | on disk | then |
//! |---|---|
//! | the task: its range at most, its plan, its object's key | logs are encoded into a file without a name, or into several |
//! | the seal: where the range ends, and what each object hashes to | the objects get their names, if nothing has them |
//! | success, and the checkpoint | the task is listed for two days |
//!
//! Where a function makes the object, the first two are: the range as it will be, then the function is called; what it
//! made and where it is, then success.
//!
//! After a crash a task that ran is done again. As all that decides its bytes is on disk, these are the same, under
//! the same keys, and those that are there already are left as they are. Each shard has one task at most whose end is not known yet; objects are sent while the next is made.

mod call;
mod error;
mod hold;
mod make;
mod objects;
mod plan;
mod provenance;
mod queue;
mod schedule;
pub mod settings;
mod step;
mod trial;
mod work;

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use logship_logstore::{ShippingRule, Store, StoreError, Task};
use tokio::runtime::Handle;

use plan::Plans;
pub use plan::{PlanError, PlanRecord};
use queue::{Job, Lane, Queue};
use settings::Shipping;
use step::Step;

use crate::destination::{Destination, DestinationConfig, DestinationError, Found};
use crate::function;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::rule::Rule;
use crate::siem::rule::SIEM;
use crate::source::ShardReader;

/// How often it is looked what is due, while nothing else asks for it.
const LOOK: Duration = Duration::from_millis(500);

/// How often tasks are forgotten whose time is over.
const FORGET: Duration = Duration::from_secs(600);

/// How often it is looked for tasks that nobody is at.
const PICK_UP: Duration = Duration::from_secs(15);

/// Seconds that tasks are listed that failed for good: their logs are no more by then, as a rule.
const LOST: u64 = 30 * 86_400;

/// Objects that are sent while one is encoded.
const SENT_BESIDE: usize = 2;

/// How long the end waits for objects that are being sent.
const FAREWELL: Duration = Duration::from_secs(10);

/// Ships the logs of a store by its rules.
#[derive(Debug)]
pub struct Shipper {
    store: Arc<Store>,
    plans: Plans,
    settings: Shipping,
    /// The destinations that are functions.
    functions: Vec<Lane>,
    runtime: Handle,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Rules with a task that failed in a stage, by their numbers.
    suspects: Mutex<HashSet<i64>>,
    /// Objects that are being encoded.
    encoding: AtomicUsize,
    ended: AtomicBool,
    /// When the last task was created, in Unix nanoseconds.
    last_id: AtomicU64,
    last_look: Mutex<Option<Instant>>,
    stop_at: Option<String>,
}

/// The right to encode an object. Given back when it is dropped.
struct Slot<'a>(&'a Shipper);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // Under the lock: who waits for it looks at it there.
        let _queue = self.0.lock();
        self.0.encoding.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

/// The threads of a shipper.
#[derive(Debug)]
pub struct Threads {
    shipper: Arc<Shipper>,
    threads: Vec<JoinHandle<()>>,
}

impl Shipper {
    /// A shipper for a store. `data` is the folder of what it keeps; `destinations` are those that rules name.
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
        let lane = |(name, config): (&String, &DestinationConfig)| match config {
            DestinationConfig::Function(function) => Some(Lane { name: name.clone(), calls: function.calls }),
            _ => None,
        };
        Ok(Self {
            functions: destinations.iter().filter_map(lane).collect(),
            store,
            plans: Plans::new(registry, destinations, spool, runtime.clone()),
            settings,
            runtime,
            queue: Mutex::default(),
            changed: Condvar::new(),
            suspects: Mutex::default(),
            encoding: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            last_id: AtomicU64::new(0),
            last_look: Mutex::new(None),
            stop_at: std::env::var("LOGSHIP_TEST_STOP_AT").ok(),
        })
    }

    /// Goes on with the tasks that ran when the last process ended, and begins to work on what is due.
    pub fn start(self: &Arc<Self>) -> Result<Threads, StoreError> {
        self.pick_up()?;
        self.look_for_suspects();
        let workers = self.settings.workers();
        let spawn = |number| {
            let shipper = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("ship-{number}"));
            thread.spawn(move || shipper.work())
        };
        // A call of a function takes a thread, which waits.
        let calls: usize = self.functions.iter().map(|lane| lane.calls).sum();
        let threads = (0..workers * (1 + SENT_BESIDE) + calls).map(spawn);
        let threads = threads.filter_map(|thread| {
            thread.inspect_err(|error| tracing::error!(%error, "a thread can't be started")).ok()
        });
        Ok(Threads { shipper: Arc::clone(self), threads: threads.collect() })
    }

    /// Does all that is due, on this thread, and returns when nothing is: for tests, and for who has no threads.
    pub fn catch_up(&self) -> Result<(), StoreError> {
        let mut reader = ShardReader::default();
        loop {
            let mut queue = self.lock();
            queue.look(&self.store, &self.settings, &self.functions)?;
            let Some(job) = queue.pop(usize::MAX) else { return Ok(()) };
            drop(queue);
            self.encoding.fetch_add(1, Ordering::Relaxed);
            self.run(&job, &mut reader);
        }
    }

    /// Something may be due that was not before.
    pub fn hurry(&self) {
        *self.last_look.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_one();
    }

    /// Why a rule can't ship, if it can't.
    pub fn why_held(&self, rule: i64) -> Option<String> {
        self.lock().why_held(rule).cloned()
    }

    /// Checks whether the stages of a registry are found that a rule asks for, and take its settings.
    pub fn check_stages(rule: &ShippingRule, registry: &Registry) -> Result<(), PlanError> {
        let rule = Plans::rule(&rule.name, &rule.target, &rule.configuration)?;
        Ok(Pipeline::new(registry, &rule).map(drop)?)
    }

    /// Checks a rule: its stages are found and take their settings, and there is such a destination.
    pub fn check(&self, project: &str, logstore: &str, rule: &Rule) -> Result<(), PlanError> {
        self.plans.make(project, logstore, rule).map(drop)
    }

    /// Tries whether a rule can write to its destination. Blocks.
    pub fn probe(&self, rule: &Rule) -> Result<(), PlanError> {
        let destination = self.plans.destination(rule)?;
        if let Destination::Function(function) = &destination {
            let spec = function::spec(rule, &Pipeline::new(self.plans.registry(), rule)?);
            function.probe(&spec).map_err(DestinationError::from)?;
            if function.store().is_err() {
                return Ok(());
            }
        }
        Ok(destination.probe(&rule.prefix)?)
    }

    /// What is at the destination of a task under the key of an object. It is read for it. Blocks.
    pub fn find(&self, task: &Task, object: &str, now: Option<&Rule>) -> Result<Option<Found>, PlanError> {
        let content = self.store.plan(task.plan).map_err(|_| PlanError::Gone)?;
        Ok(self.plans.stored(&content, now)?.destination.find(object)?)
    }

    /// Deletes the components that no task, no name and no rule needs any more. Blocks.
    pub fn tidy_stages(&self) {
        let catalog = self.store.catalog();
        let versions = catalog.stages().names.values().flat_map(|name| &name.versions);
        let mut needed: HashSet<String> = versions.map(|version| version.digest.clone()).collect();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        rules.for_each(|rule| needed.extend(digests(&rule.configuration.to_string())));
        let plans = match self.store.plans() {
            Ok(plans) => plans,
            Err(error) => return tracing::error!(%error, "can't look which components are needed"),
        };
        plans.iter().for_each(|plan| needed.extend(digests(plan)));
        match self.registry().tidy(&needed) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "deleted components that nothing needs any more"),
            Err(error) => tracing::error!(%error, "can't delete components that nothing needs"),
        }
    }

    /// The stages that it has.
    pub fn registry(&self) -> &Registry {
        self.plans.registry()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn work(&self) {
        let mut reader = ShardReader::default();
        while let Some(job) = self.next_job() {
            self.run(&job, &mut reader);
        }
    }

    fn run(&self, job: &Job, reader: &mut ShardReader) {
        let slot = Slot(self);
        let work = || match job {
            Job::Begin(begin) => self.begin(begin, reader, slot),
            Job::Resume(_, task) => self.resume(*task, reader, slot),
        };
        let failed = std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            // The task is found running, and tried again; this thread goes on.
            tracing::error!(?job, "a defect of logship: please report it");
            if let Job::Begin(begin) = job {
                self.lock().hold(
                    begin.rule.number(),
                    "a defect of logship: its log has more".into(),
                    u64::MAX,
                );
                self.lock().put_back(begin.key());
            }
            None
        });
        self.lock().done(job.rule(), failed);
        self.changed.notify_one();
    }

    /// Tasks that run by what is on disk, and that nobody is at: of the last process, or whose end could not be written
    /// down.
    fn pick_up(&self) -> Result<(), StoreError> {
        let running = self.store.running_tasks()?;
        let catalog = self.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        let fed: HashSet<i64> = rules.filter(|rule| rule.target == SIEM).map(ShippingRule::number).collect();
        let mut queue = self.lock();
        for (rule, task) in running.into_iter().filter(|(rule, _)| !fed.contains(rule)) {
            queue.resume(rule, task);
        }
        drop(queue);
        self.hurry();
        Ok(())
    }

    /// Waits for a job, and for the right to encode. None when the service ends.
    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if self.has_ended() {
                return None;
            }
            if self.is_time_to_look()
                && let Err(error) = queue.look(&self.store, &self.settings, &self.functions)
            {
                tracing::error!(%error, "can't look for logs to ship");
            }
            if self.encoding.load(Ordering::Relaxed) < self.settings.workers()
                && let Some(job) = queue.pop(self.settings.workers() * (1 + SENT_BESIDE))
            {
                self.encoding.fetch_add(1, Ordering::Relaxed);
                // Others may find more, or see to what this one leaves.
                self.changed.notify_one();
                return Some(job);
            }
            queue = self.changed.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_time_to_look(&self) -> bool {
        let mut last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= LOOK);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Where tests end the process as a crash would: `LOGSHIP_TEST_STOP_AT=STEP`.
    fn at(&self, step: Step) {
        if self.stop_at.as_ref().is_some_and(|stop| *stop == format!("{step:?}")) {
            tracing::error!(?step, "ended by LOGSHIP_TEST_STOP_AT");
            std::process::abort();
        }
    }

    /// Picks up what was left, and forgets what is over, now and then.
    async fn keep_up(self: Arc<Self>) {
        let mut forgotten = Instant::now();
        loop {
            tokio::time::sleep(PICK_UP).await;
            let shipper = Arc::clone(&self);
            let look = move || {
                shipper.plans.let_go();
                shipper.registry().let_go();
                shipper.pick_up()
            };
            let picked_up = tokio::task::spawn_blocking(look).await;
            if let Ok(Err(error)) = picked_up {
                tracing::error!(%error, "can't look for tasks that were left");
            }
            if forgotten.elapsed() >= FORGET {
                forgotten = Instant::now();
                self.forget().await;
                let shipper = Arc::clone(&self);
                let _ = tokio::task::spawn_blocking(move || shipper.tidy_stages()).await;
            }
        }
    }

    async fn forget(&self) {
        let ago = |seconds: u64| self.store.clock().saturating_sub(seconds * 1_000_000);
        let (kept, lost) = (self.settings.keep_tasks_seconds, self.settings.keep_tasks_seconds.max(LOST));
        loop {
            match self.store.forget_tasks(ago(kept), ago(lost)).await {
                Ok(count) if count == Store::FORGOTTEN => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(%error, "can't forget tasks whose time is over");
                    break;
                }
            }
        }
        let catalog = self.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        let rules: HashSet<i64> = rules.map(ShippingRule::number).collect();
        self.plans.forget(|rule| rules.contains(&rule));
    }
}

/// What in a text can be the digest of a component.
fn digests(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned)
}

impl Threads {
    /// Picks up tasks that were left, and forgets those whose time is over, for ever.
    pub async fn keep_up(shipper: Arc<Shipper>) {
        shipper.keep_up().await;
    }

    /// Ends the work: what is being encoded is given up, what is being sent has a while. Tasks that are not done by
    /// then go on with the next start. Blocks.
    pub fn end(self) {
        let Self { shipper, threads } = self;
        shipper.ended.store(true, Ordering::Relaxed);
        shipper.changed.notify_all();
        let begun = Instant::now();
        while begun.elapsed() < FAREWELL && threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = threads.iter().filter(|thread| !thread.is_finished()).count();
        if left > 0 {
            tracing::warn!(left, "objects are still being sent; their tasks go on with the next start");
        }
    }
}
