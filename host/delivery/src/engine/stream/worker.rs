//! The worker of a rule: one delivery per shard, and the tasks in flight.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_logstore::{LogPosition, Shard, ShippingRule, Status, StoreError, Task, TaskFilter, TaskId};
use logship_sink::backoff::Backoff;
use logship_source::shard_reader::ShardReader;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::engine::DeliveryEngine;
use crate::engine::error::TaskError;
use crate::engine::panics;
use crate::engine::plan::Plan as _;
use crate::engine::stream::tasks::ShardTasks;
use crate::engine::stream::{POLL_INTERVAL, SHUTDOWN_TIMEOUT, Stream, on_thread, stopped};
use crate::engine::work::{RuleSpec, StreamPlan as _, StreamWork};

/// Time after which an unconfirmed task is shown as failed.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// Delay after which the next process retries a stuck task, in seconds.
const STUCK_RETRY_SECONDS: u64 = 30;

/// Delay before a delivery that panicked is restarted.
const PANIC_RETRY: Duration = Duration::from_secs(3);

/// The worker of a rule.
#[derive(Debug)]
pub(super) struct Worker<W: StreamWork> {
    pub(super) engine: Arc<DeliveryEngine>,
    stream: Arc<Stream<W>>,
    pub(super) rule: ShippingRule,
    pub(super) project: String,
    pub(super) logstore: String,
    pub(super) plan: Arc<W::Plan>,
    /// The revision of the stage aliases at which the plan's stages were last found current.
    pub(super) revision: AtomicI64,
    /// The tasks in flight.
    in_flight: Mutex<HashMap<TaskId, InFlightTask<W::Plan>>>,
}

/// A task in flight.
#[derive(Debug)]
struct InFlightTask<P> {
    shard: u32,
    started: Instant,
    /// True if the task is marked as failed.
    is_marked: bool,
    /// The task's plan.
    plan: Arc<P>,
}

impl<W: StreamWork> Worker<W> {
    pub(super) fn new(
        engine: Arc<DeliveryEngine>,
        stream: Arc<Stream<W>>,
        rule: ShippingRule,
        (project, logstore): (String, String),
        plan: Arc<W::Plan>,
        revision: i64,
    ) -> Self {
        let (revision, in_flight) = (AtomicI64::new(revision), Mutex::default());
        Self { engine, stream, rule, project, logstore, plan, revision, in_flight }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<TaskId, InFlightTask<W::Plan>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a task as being in flight.
    pub(super) fn begin(&self, id: TaskId, shard: u32, plan: Arc<W::Plan>) {
        let task = InFlightTask { shard, started: Instant::now(), is_marked: false, plan };
        self.in_flight().insert(id, task);
    }

    /// Marks a task as delivered.
    pub(super) fn end(&self, id: TaskId) {
        self.in_flight().remove(&id);
    }

    /// Delivers all shards until `stop`.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (mut delivering, mut deliveries) = (HashSet::new(), JoinSet::new());
        loop {
            let catalog = self.engine.store.catalog();
            let Ok(logstore) = catalog.logstore(&self.project, &self.logstore) else { break };
            for shard in &logstore.shards {
                if delivering.insert(shard.number) {
                    let (worker, shard, stopping) = (Arc::clone(&self), Arc::clone(shard), stop.clone());
                    let number = shard.number;
                    deliveries.spawn(async move {
                        let delivery = Arc::clone(&worker).deliver_shard(shard, stopping.clone());
                        if let Err(panic) = AssertUnwindSafe(delivery).catch_unwind().await {
                            worker.recover_shard(number, &panics::message(&*panic), stopping).await;
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
        let mut ended = pin!(async { while deliveries.join_next().await.is_some() {} });
        // The next worker of the rule resends undelivered tasks. A slow destination gets more time than one that fails.
        if timeout(SHUTDOWN_TIMEOUT, &mut ended).await.is_err() && self.plan.problem().is_none() {
            let _ = timeout(SHUTDOWN_TIMEOUT, ended).await;
        }
        self.stream.changed.notify_one();
    }

    /// Marks stuck tasks as failed.
    async fn mark_stuck_tasks(&self) {
        let (pauses, rule) = (&self.engine.pauses, self.rule.number());
        let Some(problem) = self.plan.problem() else { return pauses.clear(rule, false) };
        pauses.pause(rule, problem.clone(), u64::MAX);
        let is_stuck = |task: &InFlightTask<_>| !task.is_marked && task.started.elapsed() > STUCK_AFTER;
        let stuck: Vec<(TaskId, Option<String>)> = self
            .in_flight()
            .iter()
            .filter(|(_, task)| is_stuck(task))
            .map(|(id, task)| (*id, task.plan.failing_stage()))
            .collect();
        for (id, stage) in stuck {
            let lifecycle = &self.engine.lifecycle;
            match lifecycle.mark_stuck(id, stage.as_deref(), &problem, STUCK_RETRY_SECONDS).await {
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

    /// Marks the tasks of a delivery that panicked as failed, and waits before it is restarted from the checkpoint.
    async fn recover_shard(&self, shard: u32, panic: &str, mut stop: watch::Receiver<bool>) {
        tracing::error!(shard, panic, "a delivery panicked: please report this bug of logship");
        let problem = TaskError::Panicked(panic.to_owned()).to_string();
        let orphans = self.in_flight().extract_if(|_, task| task.shard == shard).map(|(id, _)| id).collect();
        let orphans: Vec<TaskId> = orphans;
        for id in orphans {
            let delay = PANIC_RETRY.as_secs();
            if let Err(error) = self.engine.lifecycle.mark_stuck(id, None, &problem, delay).await {
                tracing::error!(task = %id, %error, "can't mark a task as failed");
            }
        }
        let _ = timeout(PANIC_RETRY, stopped(&mut stop)).await;
    }

    async fn deliver_shard(self: Arc<Self>, shard: Arc<Shard>, stop: watch::Receiver<bool>) {
        let (next, pending) = self.restore_position(&shard).await;
        let (worker, reader) = (Arc::clone(&self), Some(ShardReader::default()));
        let tasks = ShardTasks { worker, shard, next, pending, reader };
        self.stream.work.deliver(&self.plan, tasks, stop).await;
    }

    /// Returns the start of a shard's next task, and the unfinished tasks before it.
    async fn restore_position(self: &Arc<Self>, shard: &Arc<Shard>) -> (LogPosition, VecDeque<Task>) {
        let mut backoff = Backoff::default();
        loop {
            let (worker, shard_copy) = (Arc::clone(self), Arc::clone(shard));
            let read = move || {
                let store = &worker.engine.store;
                let progress = store.progress(&worker.rule)?;
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
                    pending.extend(store.tasks(&filter, 0, i32::MAX as usize)?.0);
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
        let catalog = self.engine.store.catalog();
        let rule =
            catalog.logstore(&self.project, &self.logstore).map(|found| found.rules.get(&self.rule.name));
        rule.is_ok_and(|rule| rule == Some(&self.rule)) && self.has_stages().await
    }

    /// True if the plan has the stages that their aliases point to.
    pub(super) async fn has_stages(self: &Arc<Self>) -> bool {
        let revision = self.engine.store.catalog().stages().revision;
        if self.revision.load(Ordering::Relaxed) == revision {
            return true;
        }
        let worker = Arc::clone(self);
        let is_same = on_thread(move || {
            let spec = RuleSpec::of(&worker.project, &worker.logstore, &worker.rule);
            let plan = worker.stream.current_plan(spec, &worker.rule, revision);
            plan.is_ok_and(|plan| plan.content() == worker.plan.content())
        });
        let is_same = is_same.await;
        if is_same {
            self.revision.store(revision, Ordering::Relaxed);
        }
        is_same
    }

    /// The plan of an existing task: the one that it was created with. `None` stands for the current one.
    pub(super) async fn plan_for_retry(
        self: &Arc<Self>,
        task: &Task,
    ) -> Result<Option<Arc<W::Plan>>, StoreError> {
        let (worker, task) = (Arc::clone(self), task.clone());
        let restore = move || {
            let content = worker.engine.store.plan(task.plan)?;
            let restored = worker.stream.work.restore(&worker.plan, &content, task.stage.as_deref());
            let restored = restored.inspect_err(|error| {
                tracing::warn!(task = %task.id, %error, "can't open the original formatter of a task; using the current one");
            });
            Ok(restored.ok().flatten().map(Arc::new))
        };
        on_thread(restore).await
    }
}
