//! The delivery engine: the rules of a Logstore, and the tasks that deliver its logs.
//!
//! A **task** is a range of a shard, an id, and the **plan** that determines its output: a rule with its stages pinned
//! by digest. A **kind of work** ([`Work`]) knows what a task makes and how it is delivered: objects, events. The engine
//! has all the rest.
//!
//! # Layout
//! | module | content |
//! |---|---|
//! | [`work`] | the traits of a kind of work |
//! | `lifecycle` | the life of a task on disk |
//! | [`plan`] | stored plans, and a cache of opened ones |
//! | `retry` | the delays between attempts |
//! | `circuit_breaker`, `pauses` | stages that fail every time, and rules that are paused |
//! | [`batch`] | a driver: due batches, run by a pool of threads |
//! | [`stream`] | a driver: continuous deliveries, several batches of a shard in flight |
//! | `maintenance` | recovery of orphaned tasks, deletion of old ones, garbage |
//! | [`error`] | errors of plans and tasks |
//! | [`preview`] | outputs that a preview compares |
//! | `panics` | panics of tasks, which fail like others |
//! | `metrics`, `step` | counters, and points at which tests abort the process |
//!
//! # Nothing lost, nothing twice
//! | on disk | then |
//! |---|---|
//! | the task: its largest range, its plan, its object key | the logs are encoded into unnamed files, or sent as events |
//! | the manifest: the end of the range, the digest of each object | the objects are published under their keys, unless they exist |
//! | success and the checkpoint | the task is listed for two days |
//!
//! Events are sent before their manifest is saved: a receiver takes them at least once.
//!
//! After a crash, running tasks are retried. Everything that determines the bytes is on disk, so a retry makes the same
//! objects under the same keys, and skips those that are published.

pub mod batch;
mod circuit_breaker;
pub mod error;
mod lifecycle;
mod maintenance;
mod metrics;
pub(crate) mod panics;
mod pauses;
pub mod plan;
pub mod preview;
mod retry;
mod running;
mod step;
pub mod stream;
pub mod work;

use std::sync::Arc;
use std::time::Instant;

use logship_config::shipping::Shipping;
use logship_logstore::{ShippingRule, Store, Task};
use logship_registry::Registry;
use logship_sink::object::ObjectInfo;
use tokio::runtime::Handle;

use self::batch::Pool;
use self::circuit_breaker::RuleBreakers;
use self::lifecycle::Lifecycle;
use self::pauses::Pauses;
use self::plan::PlanCache;
use self::stream::{Stream, StreamDriver};
use self::work::{BatchPlan, BatchWork, RuleSpec, StreamWork};

pub use self::circuit_breaker::CircuitBreaker;
pub use self::error::{PlanError, TaskError};
pub(crate) use self::lifecycle::new_number;
pub use self::plan::{PlanRecord, PlanSummary};
pub(crate) use self::retry::RetryPolicy;
pub use self::running::Running;
pub(crate) use self::step::Step;
#[cfg(feature = "failpoints")]
pub(crate) use self::step::abort_at;
pub use self::work::Work;

/// The problem of a rule that waits for an operator.
const WAITING: &str = "the store was restored, copied or damaged, and may have shipped logs of this rule in its other life: decide with `logship store confirm`";

/// Schedules and runs the tasks of a store's rules.
#[derive(Debug)]
pub struct DeliveryEngine {
    store: Arc<Store>,
    registry: Registry,
    settings: Shipping,
    runtime: Handle,
    batches: Vec<Arc<dyn BatchWork>>,
    streams: Vec<Arc<dyn StreamDriver>>,
    lifecycle: Lifecycle,
    /// The plans of batches.
    plans: PlanCache<dyn BatchPlan>,
    pauses: Pauses,
    breakers: RuleBreakers,
    pool: Pool,
}

impl DeliveryEngine {
    /// Creates an engine for a store, without any kind of work.
    pub fn new(store: Arc<Store>, registry: Registry, settings: Shipping, runtime: Handle) -> Self {
        let retry = RetryPolicy { initial: settings.retry_seconds, retry_for: settings.retry_for_seconds };
        Self {
            lifecycle: Lifecycle::new(Arc::clone(&store), retry),
            store,
            registry,
            settings,
            runtime,
            batches: vec![],
            streams: vec![],
            plans: PlanCache::default(),
            pauses: Pauses::default(),
            breakers: RuleBreakers::default(),
            pool: Pool::default(),
        }
    }

    /// Adds a kind of work in batches.
    #[must_use]
    pub fn with_batches(mut self, work: impl BatchWork) -> Self {
        self.batches.push(Arc::new(work));
        self
    }

    /// Adds a kind of work in streams.
    #[must_use]
    pub fn with_streams(mut self, work: impl StreamWork) -> Self {
        self.streams.push(Arc::new(Stream::new(work)));
        self
    }

    /// Wakes the scheduler after a change of rules, tasks or stages.
    pub fn wake(&self) {
        self.wake_pool();
        self.streams.iter().for_each(|stream| stream.wake());
    }

    /// The reason why a rule delivers nothing, if it does not.
    pub fn problem(&self, rule: i64) -> Option<String> {
        if self.waits(rule) { Some(WAITING.into()) } else { self.pauses.problem(rule) }
    }

    /// True if a rule waits for an operator, because another life of the store may have shipped its logs.
    fn waits(&self, rule: i64) -> bool {
        self.store.waits_for_generation(rule)
    }

    /// Checks a rule: its stages exist and accept their settings, and its destination exists.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self, target: &str, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        self.work(target)?.check(rule)
    }

    /// Checks that a registry has the stages of a rule, and that they accept its settings.
    ///
    /// # Errors
    /// The first problem.
    pub fn check_stages(
        &self,
        target: &str,
        rule: RuleSpec<'_>,
        registry: &Registry,
    ) -> Result<(), PlanError> {
        self.work(target)?.check_stages(rule, registry)
    }

    /// Checks that a rule can deliver. Blocks.
    ///
    /// # Errors
    /// The answer of the destination.
    pub fn probe(&self, target: &str, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        self.work(target)?.probe(rule)
    }

    /// Summarizes a stored plan.
    ///
    /// # Errors
    /// When no kind of work can read it.
    pub fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError> {
        self.first_that_reads(|work| work.summarize(content))
    }

    /// Finds an object of a task at its destination. Reads the object. Blocks.
    ///
    /// # Errors
    /// The answer of the destination.
    pub fn find(&self, task: &Task, object: &str) -> Result<Option<ObjectInfo>, PlanError> {
        let content = self.store.plan(task.plan).map_err(|_| PlanError::Gone)?;
        let catalog = self.store.catalog();
        let logstore = catalog.logstore(&task.project, &task.logstore).ok();
        let rule = logstore.and_then(|logstore| logstore.rules.get(&task.rule));
        self.restore_plan(&content, rule)?.find(object)
    }

    /// The stage registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the kind of work of a target type.
    ///
    /// # Errors
    /// [`PlanError::Target`], if there is none.
    pub fn work(&self, target: &str) -> Result<&dyn Work, PlanError> {
        let found = self.kinds().find(|work| work.target() == target);
        found.ok_or_else(|| PlanError::Target(target.into()))
    }

    fn kinds(&self) -> impl Iterator<Item = &dyn Work> {
        let streams = self.streams.iter().map(|stream| stream.work());
        streams.chain(self.batches.iter().map(|work| -> &dyn Work { &**work }))
    }

    /// Returns the result of the first kind of work that can read a stored plan.
    ///
    /// # Errors
    /// The error of the last kind, if none can.
    fn first_that_reads<T>(&self, read: impl Fn(&dyn Work) -> Result<T, PlanError>) -> Result<T, PlanError> {
        let mut result = Err(PlanError::Gone);
        for work in self.kinds() {
            result = read(work);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn batch_work(&self, rule: &ShippingRule) -> Result<&dyn BatchWork, PlanError> {
        let found = self.batches.iter().find(|work| work.target() == rule.target);
        found.map(|work| &**work).ok_or_else(|| PlanError::Target(rule.target.clone()))
    }

    /// True if a rule has streams instead of batches.
    fn is_stream(&self, rule: &ShippingRule) -> bool {
        self.streams.iter().any(|stream| stream.work().target() == rule.target)
    }

    /// The plan for the next batch of a rule.
    fn current_plan(
        &self,
        project: &str,
        logstore: &str,
        rule: &ShippingRule,
        revision: i64,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        self.plans.current(rule, revision, |is_swapped| {
            let begun = Instant::now();
            let plan = self.batch_work(rule)?.build(RuleSpec::of(project, logstore, rule))?;
            if is_swapped {
                metrics::record_swap_wait(begun);
            }
            Ok(plan)
        })
    }

    /// Restores a stored plan of a batch. If the rule still delivers to the same destination, its current credentials
    /// are used, so that a wrong key can be corrected.
    fn restore_plan(
        &self,
        content: &str,
        rule: Option<&ShippingRule>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let mut result = Err(PlanError::Gone);
        for work in &self.batches {
            let rule = rule.filter(|rule| rule.target == work.target());
            result = work.restore(content, rule, &self.plans);
            if !matches!(result, Err(PlanError::Record(_))) {
                break;
            }
        }
        result
    }
}
