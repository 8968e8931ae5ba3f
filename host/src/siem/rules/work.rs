//! One rule that sends: a feed for each shard, and the tasks that are on their way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_logstore::{
    NewTask, Place, Shard, ShippingRule, Status, Store, StoreError, Task, TaskFilter, TaskId,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ledger::Tasks;
use super::stored::Stored;
use super::{FAREWELL, LOOK, Rules, SiemRecord};
use crate::object::new_number;
use crate::registry::DIGEST;
use crate::rule::Choice;
use crate::siem::backoff::Backoff;
use crate::siem::dead_letter::Origin;
use crate::siem::feed::{Formatters, Outlet, on_thread, told};
use crate::source::ShardReader;
use crate::transforms::Transforms;

/// A task that is not received after so long is shown as failed.
const STUCK: Duration = Duration::from_secs(3);

/// The work of a rule.
pub(super) struct Work {
    pub(super) rules: Arc<Rules>,
    pub(super) rule: ShippingRule,
    pub(super) project: String,
    pub(super) logstore: String,
    pub(super) outlet: Outlet,
    /// The name of the stage that formats.
    pub(super) stage: String,
    /// What transforms the logs before.
    pub(super) transform: Vec<Choice>,
    /// The revision of the names at which it was seen that the outlet has the stage that this one stands for.
    pub(super) revision: AtomicI64,
    pub(super) plan: String,
    /// Tasks on their way.
    pub(super) open: Mutex<HashMap<TaskId, Open>>,
}

/// A task on its way.
pub(super) struct Open {
    pub(super) since: Instant,
    /// Whether it is shown as failed.
    pub(super) told: bool,
    /// What formats it.
    pub(super) formatters: Arc<Formatters>,
}

impl Work {
    pub(super) fn store(&self) -> &Store {
        &self.rules.store
    }

    pub(super) fn open(&self) -> MutexGuard<'_, HashMap<TaskId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds each shard that there is, until `stop`.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (mut fed, mut feeds) = (HashSet::new(), JoinSet::new());
        loop {
            let catalog = self.store().catalog();
            let Ok(logstore) = catalog.logstore(&self.project, &self.logstore) else { break };
            for shard in &logstore.shards {
                if fed.insert(shard.number) {
                    let (work, shard, stopping) = (Arc::clone(&self), Arc::clone(shard), stop.clone());
                    let number = shard.number;
                    feeds.spawn(async move {
                        let feed = AssertUnwindSafe(work.feed(shard, stopping)).catch_unwind().await;
                        if feed.is_err() {
                            tracing::error!(shard = number, "a defect of logship: please report it");
                        }
                        number
                    });
                }
            }
            // One that ended is begun anew, from what is on disk.
            while let Some(Ok(shard)) = feeds.try_join_next() {
                fed.remove(&shard);
            }
            self.tell_of_stuck().await;
            tokio::select! {
                () = told(&mut stop) => break,
                () = sleep(LOOK) => {}
            }
        }
        let ended = async { while feeds.join_next().await.is_some() {} };
        // What is not delivered by then is sent again by whoever goes on with the rule.
        let _ = timeout(FAREWELL, ended).await;
        self.rules.hurry();
    }

    /// Shows tasks as failed that the receiver does not take.
    async fn tell_of_stuck(&self) {
        let problem = self.outlet.receiver.problem();
        match &problem {
            Some(problem) => self.rules.problems().insert(self.rule.number(), problem.clone()),
            None => self.rules.problems().remove(&self.rule.number()),
        };
        let Some(problem) = problem else { return };
        let is_stuck = |open: &Open| !open.told && open.since.elapsed() > STUCK;
        let stuck = |(id, open): (&TaskId, &Open)| {
            let formatters = &open.formatters;
            (*id, formatters.is_failing().then(|| formatters.identity().digest().to_owned()))
        };
        let stuck: Vec<(TaskId, Option<String>)> =
            self.open().iter().filter(|(_, open)| is_stuck(open)).map(stuck).collect();
        for (id, stage) in stuck {
            let next = self.store().clock() + 30_000_000;
            let stage = stage.as_deref();
            let failed =
                self.store().fail_task_in(id, stage, "InternalServerError", &problem, Some(next)).await;
            match failed {
                Ok(()) => {
                    if let Some(open) = self.open().get_mut(&id) {
                        open.told = true;
                    }
                }
                Err(error) => {
                    tracing::error!(task = %id, %error, "that a task is stuck can't be written down")
                }
            }
        }
    }

    async fn feed(self: Arc<Self>, shard: Arc<Shard>, stop: watch::Receiver<bool>) {
        let origin = Origin {
            rule: self.rule.name.clone(),
            receiver: self.outlet.receiver.name().to_owned(),
            project: self.project.clone(),
            logstore: self.logstore.clone(),
            shard: shard.number,
        };
        let (next, pending) = self.where_it_was(&shard).await;
        let reader =
            Stored { work: Arc::clone(&self), shard, next, pending, reader: Some(ShardReader::default()) };
        let ledger = Tasks { work: Arc::clone(&self) };
        let _ = self.outlet.feed(&origin, reader, ledger, stop).await;
    }

    /// Where the next task of a shard begins, and the tasks before it that are not done.
    async fn where_it_was(self: &Arc<Self>, shard: &Arc<Shard>) -> (Place, VecDeque<Task>) {
        let mut backoff = Backoff::default();
        loop {
            let (work, of) = (Arc::clone(self), Arc::clone(shard));
            let read = move || {
                let progress = work.store().progress(&work.rule)?;
                let next = progress.get(&of.number).map_or(Place::at(of.begin()), |progress| progress.next);
                let mut pending = vec![];
                for status in [Status::Running, Status::Failed] {
                    let filter = TaskFilter {
                        project: Some(work.project.clone()),
                        logstore: Some(work.logstore.clone()),
                        rule: Some(work.rule.name.clone()),
                        shard: Some(of.number),
                        status: Some(status),
                        ..TaskFilter::default()
                    };
                    pending.extend(work.store().tasks(&filter, 0, i32::MAX as usize)?.0);
                }
                // What failed for good has no more logs to send.
                pending.retain(|task| task.status == Status::Running || task.next_try.is_some());
                pending.sort_by_key(|task| task.begin);
                Ok::<_, StoreError>((next, pending.into()))
            };
            match on_thread(read).await {
                Ok(found) => return found,
                Err(error) => {
                    let wait = backoff.next();
                    tracing::error!(rule = self.rule.name, shard = shard.number, %error, ?wait, "can't look where the rule was");
                    sleep(wait).await;
                }
            }
        }
    }

    /// Whether the rule and its stage are what they were when the work began.
    pub(super) async fn is_current(self: &Arc<Self>) -> bool {
        let catalog = self.store().catalog();
        let rule =
            catalog.logstore(&self.project, &self.logstore).map(|found| found.rules.get(&self.rule.name));
        rule.is_ok_and(|rule| rule == Some(&self.rule)) && self.has_stage().await
    }

    /// Whether the outlet has the stages that their names stand for.
    pub(super) async fn has_stage(self: &Arc<Self>) -> bool {
        let revision = self.store().catalog().stages().revision;
        if self.revision.load(Ordering::Relaxed) == revision {
            return true;
        }
        let work = Arc::clone(self);
        let is_same = on_thread(move || {
            let (registry, formatters) = (&work.rules.registry, &work.outlet.formatters);
            let stage = registry.formatter(&work.stage);
            let transforms = Transforms::new(registry, &work.transform);
            stage.is_ok_and(|stage| stage.identity() == formatters.identity())
                && transforms.is_ok_and(|transforms| transforms.stages().eq(formatters.transforms().stages()))
        });
        let is_same = is_same.await;
        if is_same {
            self.revision.store(revision, Ordering::Relaxed);
        }
        is_same
    }

    /// What formats a task that was made before: the stages that it was made with. If it failed in that which formats, or
    /// there is no such stage any more, those that format now.
    pub(super) async fn formatters_of(
        self: &Arc<Self>,
        task: &Task,
    ) -> Result<Option<Arc<Formatters>>, StoreError> {
        let (work, task) = (Arc::clone(self), task.clone());
        let find = move || {
            let record: Option<SiemRecord> = serde_json::from_str(&work.store().plan(task.plan)?).ok();
            let now = &work.outlet.formatters;
            let is_other = |record: &SiemRecord| {
                record.digest != now.identity().digest() || record.siem.transform != now.transforms().pinned()
            };
            let Some(record) = record.filter(is_other) else { return Ok(None) };
            if task.stage.as_ref() == Some(&record.digest) {
                return Ok(None);
            }
            let stage = format!("{DIGEST}{}", record.digest);
            let formatters = work.rules.formatters(&record.siem, &stage, &work.rules.registry);
            let found = formatters.inspect_err(|error| {
                tracing::warn!(task = %task.id, %error, "a task is not formatted by the stage that it was made with");
            });
            Ok(found.ok().map(Arc::new))
        };
        on_thread(find).await
    }

    pub(super) fn new_task(&self, shard: &Shard, begin: Place, end: Place, received: u64) -> NewTask {
        let id = TaskId { created: self.store().clock() * 1000, number: new_number() };
        let object = self.outlet.receiver.name().to_owned();
        let (plan, revision) = (self.plan.clone(), self.revision.load(Ordering::Relaxed));
        NewTask { id, shard: shard.number, begin, end, object, received, plan, revision }
    }
}
