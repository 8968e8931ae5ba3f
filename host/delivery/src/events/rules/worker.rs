//! The worker of a SIEM rule: one delivery per shard, and the in-flight tasks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_logstore::{
    LogPosition, NewTask, Shard, ShippingRule, Status, Store, StoreError, Task, TaskFilter, TaskId,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::events::dead_letter::Origin;
use crate::events::delivery::{Delivery, Formatters, on_thread, stopped};
use crate::events::rules::checkpoints::TaskCheckpoints;
use crate::events::rules::store_reader::StoreReader;
use crate::events::rules::{POLL_INTERVAL, Rules, SHUTDOWN_TIMEOUT, SiemRecord};
use crate::objects::object::new_number;
use crate::pipeline::transforms::Transforms;
use logship_config::rule::StageSpec;
use logship_config::stage_name::DIGEST_PREFIX;
use logship_sink::backoff::Backoff;
use logship_source::shard_reader::ShardReader;

/// Time after which an unconfirmed task is shown as failed.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// The worker of a rule.
pub(super) struct RuleWorker {
    pub(super) rules: Arc<Rules>,
    pub(super) rule: ShippingRule,
    pub(super) project: String,
    pub(super) logstore: String,
    pub(super) delivery: Delivery,
    /// The name of the formatter.
    pub(super) stage: String,
    /// The transformers before the formatter.
    pub(super) transform: Vec<StageSpec>,
    /// The revision of the stage aliases at which the delivery's stages were last found current.
    pub(super) revision: AtomicI64,
    pub(super) plan: String,
    /// In-flight tasks.
    pub(super) in_flight: Mutex<HashMap<TaskId, InFlightTask>>,
}

/// An in-flight task.
pub(super) struct InFlightTask {
    pub(super) started: Instant,
    /// True if the task is marked as failed.
    pub(super) is_marked: bool,
    /// The task's formatters.
    pub(super) formatters: Arc<Formatters>,
}

impl RuleWorker {
    pub(super) fn store(&self) -> &Store {
        &self.rules.store
    }

    pub(super) fn in_flight(&self) -> MutexGuard<'_, HashMap<TaskId, InFlightTask>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers all shards until `stop`.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (mut delivering, mut deliveries) = (HashSet::new(), JoinSet::new());
        loop {
            let catalog = self.store().catalog();
            let Ok(logstore) = catalog.logstore(&self.project, &self.logstore) else { break };
            for shard in &logstore.shards {
                if delivering.insert(shard.number) {
                    let (worker, shard, stopping) = (Arc::clone(&self), Arc::clone(shard), stop.clone());
                    let number = shard.number;
                    deliveries.spawn(async move {
                        let delivery =
                            AssertUnwindSafe(worker.deliver_shard(shard, stopping)).catch_unwind().await;
                        if delivery.is_err() {
                            tracing::error!(
                                shard = number,
                                "a delivery panicked: please report this bug of logship"
                            );
                        }
                        number
                    });
                }
            }
            // A delivery that ended is restarted from the checkpoint.
            while let Some(Ok(shard)) = deliveries.try_join_next() {
                delivering.remove(&shard);
            }
            self.mark_stuck_tasks().await;
            tokio::select! {
                () = stopped(&mut stop) => break,
                () = sleep(POLL_INTERVAL) => {}
            }
        }
        let ended = async { while deliveries.join_next().await.is_some() {} };
        // The next worker of the rule resends undelivered tasks.
        let _ = timeout(SHUTDOWN_TIMEOUT, ended).await;
        self.rules.wake();
    }

    /// Marks stuck tasks as failed.
    async fn mark_stuck_tasks(&self) {
        let problem = self.delivery.receiver.health().problem();
        match &problem {
            Some(problem) => self.rules.problems().insert(self.rule.number(), problem.clone()),
            None => self.rules.problems().remove(&self.rule.number()),
        };
        let Some(problem) = problem else { return };
        let is_stuck = |task: &InFlightTask| !task.is_marked && task.started.elapsed() > STUCK_AFTER;
        let stuck = |(id, task): (&TaskId, &InFlightTask)| {
            let formatters = &task.formatters;
            (*id, formatters.is_failing().then(|| formatters.identity().digest().to_owned()))
        };
        let stuck: Vec<(TaskId, Option<String>)> =
            self.in_flight().iter().filter(|(_, task)| is_stuck(task)).map(stuck).collect();
        for (id, stage) in stuck {
            let next = self.store().clock() + 30_000_000;
            let stage = stage.as_deref();
            let failed =
                self.store().fail_task_in_stage(id, stage, "InternalServerError", &problem, Some(next)).await;
            match failed {
                Ok(()) => {
                    if let Some(task) = self.in_flight().get_mut(&id) {
                        task.is_marked = true;
                    }
                }
                Err(error) => {
                    tracing::error!(task = %id, %error, "can't mark a stuck task as failed")
                }
            }
        }
    }

    async fn deliver_shard(self: Arc<Self>, shard: Arc<Shard>, stop: watch::Receiver<bool>) {
        let origin = Origin {
            rule: self.rule.name.clone(),
            receiver: self.delivery.receiver.name().to_owned(),
            project: self.project.clone(),
            logstore: self.logstore.clone(),
            shard: shard.number,
        };
        let (next, pending) = self.restore_position(&shard).await;
        let reader = StoreReader {
            worker: Arc::clone(&self),
            shard,
            next,
            pending,
            reader: Some(ShardReader::default()),
        };
        let checkpoints = TaskCheckpoints { worker: Arc::clone(&self) };
        let _ = self.delivery.run(&origin, reader, checkpoints, stop).await;
    }

    /// Returns the start of a shard's next task, and the unfinished tasks before it.
    async fn restore_position(self: &Arc<Self>, shard: &Arc<Shard>) -> (LogPosition, VecDeque<Task>) {
        let mut backoff = Backoff::default();
        loop {
            let (worker, shard_copy) = (Arc::clone(self), Arc::clone(shard));
            let read = move || {
                let progress = worker.store().progress(&worker.rule)?;
                let next = progress
                    .get(&shard_copy.number)
                    .map_or(LogPosition::at(shard_copy.begin()), |progress| progress.next);
                let mut pending = vec![];
                for status in [Status::Running, Status::Failed] {
                    let filter = TaskFilter {
                        project: Some(worker.project.clone()),
                        logstore: Some(worker.logstore.clone()),
                        rule: Some(worker.rule.name.clone()),
                        shard: Some(shard_copy.number),
                        status: Some(status),
                        ..TaskFilter::default()
                    };
                    pending.extend(worker.store().tasks(&filter, 0, i32::MAX as usize)?.0);
                }
                // Permanently failed tasks have no logs left.
                pending.retain(|task| task.status == Status::Running || task.next_attempt.is_some());
                pending.sort_by_key(|task| task.begin);
                Ok::<_, StoreError>((next, pending.into()))
            };
            match on_thread(read).await {
                Ok(found) => return found,
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::error!(rule = self.rule.name, shard = shard.number, %error, ?wait, "can't read the rule's checkpoint");
                    sleep(wait).await;
                }
            }
        }
    }

    /// True if the rule and its stages have not changed since the worker started.
    pub(super) async fn is_current(self: &Arc<Self>) -> bool {
        let catalog = self.store().catalog();
        let rule =
            catalog.logstore(&self.project, &self.logstore).map(|found| found.rules.get(&self.rule.name));
        rule.is_ok_and(|rule| rule == Some(&self.rule)) && self.has_stage().await
    }

    /// True if the delivery has the stages that their aliases point to.
    pub(super) async fn has_stage(self: &Arc<Self>) -> bool {
        let revision = self.store().catalog().stages().revision;
        if self.revision.load(Ordering::Relaxed) == revision {
            return true;
        }
        let worker = Arc::clone(self);
        let is_same = on_thread(move || {
            let (registry, formatters) = (&worker.rules.registry, &worker.delivery.formatters);
            let stage = registry.formatter(&worker.stage);
            let transforms = Transforms::new(registry, &worker.transform);
            stage.is_ok_and(|stage| stage.identity() == formatters.identity())
                && transforms.is_ok_and(|transforms| transforms.stages().eq(formatters.transforms().stages()))
        });
        let is_same = is_same.await;
        if is_same {
            self.revision.store(revision, Ordering::Relaxed);
        }
        is_same
    }

    /// The formatters of an existing task: those that it was created with. `None` stands for the current ones, if they
    /// are the same, if the task failed in its formatter, or if its stages are gone.
    pub(super) async fn formatters_of(
        self: &Arc<Self>,
        task: &Task,
    ) -> Result<Option<Arc<Formatters>>, StoreError> {
        let (worker, task) = (Arc::clone(self), task.clone());
        let find = move || {
            let record: Option<SiemRecord> = serde_json::from_str(&worker.store().plan(task.plan)?).ok();
            let current = &worker.delivery.formatters;
            let is_other = |record: &SiemRecord| {
                record.digest != current.identity().digest()
                    || record.siem.transform != current.transforms().pinned()
            };
            let Some(record) = record.filter(is_other) else { return Ok(None) };
            if task.stage.as_ref() == Some(&record.digest) {
                return Ok(None);
            }
            let stage = format!("{DIGEST_PREFIX}{}", record.digest);
            let formatters = worker.rules.formatters(&record.siem, &stage, &worker.rules.registry);
            let found = formatters.inspect_err(|error| {
                tracing::warn!(task = %task.id, %error, "can't open the original formatter of a task; using the current one");
            });
            Ok(found.ok().map(Arc::new))
        };
        on_thread(find).await
    }

    pub(super) fn new_task(
        &self,
        shard: &Shard,
        begin: LogPosition,
        end: LogPosition,
        received: u64,
    ) -> NewTask {
        let id = TaskId { created: self.store().clock() * 1000, number: new_number() };
        let object = self.delivery.receiver.name().to_owned();
        let (plan, revision) = (self.plan.clone(), self.revision.load(Ordering::Relaxed));
        NewTask { id, shard: shard.number, begin, end, object, received, plan, revision }
    }
}
