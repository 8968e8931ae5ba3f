//! The rules of a store that send to SIEMs: one feed for each shard of each rule.
//!
//! A load is a task of the rule: on disk before anything of it is sent, and done, with the checkpoint, in one
//! transaction when the receiver has all of it. A task whose receiver does not take it is shown as failed while it is
//! tried on: there is nothing behind it that could be sent before.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_logstore::{
    Limits, Logstore, NewTask, Place, Seal, Shard, ShippingRule, Status, Store, StoreError, Task, TaskFilter,
    TaskId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::dead_letter::{DeadLetters, Origin};
use super::feed::{
    Formatters, Gone, LOAD, Ledger, Load, Outlet, OutletError, Reader, Room, Sent, on_thread, told,
};
use super::format::Formatting;
use super::load::{Chunk, Position};
use super::receiver::{Receiver, ReceiverConfig, ReceiverError};
use super::rule::{SIEM, SiemRule};
use crate::object::new_number;
use crate::registry::{DIGEST, Registry};
use crate::rule::{Choice, RuleError};
use crate::source::{CHUNK, ShardReader, SourceError};
use crate::transforms::Transforms;

/// How often it is looked for rules that changed, and for tasks that are stuck.
const LOOK: Duration = Duration::from_secs(1);

/// How often a shard is looked at that had nothing to send.
const PAUSE: Duration = Duration::from_millis(500);

/// How long what is on its way has to be delivered when a rule changes, or the service ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes of logs of a rule that may be on their way.
const ROOM: usize = 16 << 20;

/// A task that is not received after so long is shown as failed.
const STUCK: Duration = Duration::from_secs(3);

/// What made a task, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SiemRecord {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule, its transformers by their digests.
    pub siem: SiemRule,
    /// What the stages are called: name and version of each.
    pub stages: Vec<String>,
    /// SHA-256 of the one that formats.
    pub digest: String,
}

/// Why a rule can't send.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The rule is wrong.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The receiver's settings are wrong.
    #[error("receiver {name}: {source}")]
    Receiver {
        /// The receiver.
        name: String,
        /// What is wrong with it.
        source: ReceiverError,
    },
    /// Its stage.
    #[error(transparent)]
    Outlet(#[from] OutletError),
}

/// Sends by the rules of a store.
#[derive(Debug)]
pub struct Rules {
    store: Arc<Store>,
    registry: Registry,
    receivers: BTreeMap<String, ReceiverConfig>,
    dead_letters: Arc<DeadLetters>,
    /// Times in a row that a stage fails until it is tried now and then only.
    hold_after: usize,
    /// What keeps rules from sending, by their numbers.
    problems: Mutex<HashMap<i64, String>>,
    /// Something may be another than it was.
    changed: Notify,
}

impl Rules {
    /// The rules of a store. `receivers` are those that they name; a stage that fails `hold_after` times in a row is tried
    /// now and then only.
    pub fn new(
        store: Arc<Store>,
        registry: Registry,
        receivers: BTreeMap<String, ReceiverConfig>,
        dead_letters: DeadLetters,
        hold_after: usize,
    ) -> Self {
        let dead_letters = Arc::new(dead_letters);
        let (problems, changed) = (Mutex::default(), Notify::new());
        Self { store, registry, receivers, dead_letters, hold_after, problems, changed }
    }

    /// A stage may be another one now.
    pub fn hurry(&self) {
        self.changed.notify_one();
    }

    /// Checks a rule: there is such a receiver, and its stage takes its configuration.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self, rule: &SiemRule) -> Result<(), RulesError> {
        self.check_with(rule, &self.registry)
    }

    /// Checks a rule with the stages of another registry.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check_with(&self, rule: &SiemRule, registry: &Registry) -> Result<(), RulesError> {
        self.outlet(rule, registry).map(drop)
    }

    /// What keeps a rule from sending, if anything does.
    pub fn problem(&self, rule: i64) -> Option<String> {
        self.problems().get(&rule).cloned()
    }

    fn problems(&self) -> MutexGuard<'_, HashMap<i64, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet(&self, rule: &SiemRule, registry: &Registry) -> Result<Outlet, RulesError> {
        let (name, config) = (&rule.receiver, self.receiver(rule)?);
        let receiver = Receiver::new(name, config)
            .map_err(|source| RulesError::Receiver { name: name.clone(), source })?;
        let formatters = self.formatters(rule, self.stage(rule)?, registry)?;
        Ok(Outlet::new(Arc::new(receiver), formatters, Arc::clone(&self.dead_letters)).within(ROOM))
    }

    /// What transforms and formats for a rule: the stage that formats by its name.
    fn formatters(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatters, RulesError> {
        let transport = self.receiver(rule)?.transport();
        let format = rule.format.clone();
        Ok(Formatters::new(registry, transport, &rule.transform, stage, format, Some(self.hold_after))?)
    }

    /// The same, for one who formats by himself.
    pub(super) fn formatting(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatting, RulesError> {
        Ok(self.formatters(rule, stage, registry)?.formatting())
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The name of a rule's stage.
    pub(super) fn stage<'a>(&'a self, rule: &'a SiemRule) -> Result<&'a str, RulesError> {
        let built_in = self.receiver(rule)?.stage();
        Ok(rule.stage.as_deref().unwrap_or(built_in))
    }

    fn receiver(&self, rule: &SiemRule) -> Result<&ReceiverConfig, RulesError> {
        let name = &rule.receiver;
        let missing = || {
            let known: Vec<_> = self.receivers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            let problem = format!("the service's settings name no receiver {name:?}; there is {known}");
            RuleError::field("receiver", problem).into()
        };
        self.receivers.get(name).ok_or_else(missing)
    }

    /// Sends by all rules that are enabled, as they are at the time, until `stop`.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut running: HashMap<i64, Running> = HashMap::new();
        loop {
            let wanted = self.wanted();
            for (number, running) in &running {
                let is_same = wanted.get(number).is_some_and(|(_, rule, _)| *rule == running.work.rule);
                if !is_same || !running.work.has_stage().await {
                    running.stop.send_replace(true);
                }
            }
            running.retain(|_, running| !running.task.is_finished());
            for (number, (logstore, rule, parsed)) in wanted {
                if !running.contains_key(&number)
                    && let Some(begun) = self.begin(&logstore, rule, parsed).await
                {
                    running.insert(number, begun);
                }
            }
            tokio::select! {
                () = told(&mut stop) => break,
                () = self.changed.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
        for running in running.values() {
            running.stop.send_replace(true);
        }
        let ended = futures_util::future::join_all(running.into_values().map(|running| running.task));
        let _ = timeout(FAREWELL + LOOK, ended).await;
    }

    /// The rules that are to send, by their numbers.
    fn wanted(&self) -> HashMap<i64, (Arc<Logstore>, ShippingRule, SiemRule)> {
        let catalog = self.store.catalog();
        let mut wanted = HashMap::new();
        let mut problems = self.problems();
        let mut there = HashSet::new();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values().filter(|rule| rule.target == SIEM) {
                match SiemRule::of(&rule.name, &rule.configuration) {
                    Ok(parsed) if parsed.enabled => {
                        there.insert(rule.number());
                        wanted.insert(rule.number(), (Arc::clone(logstore), rule.clone(), parsed));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        there.insert(rule.number());
                        problems.insert(rule.number(), error.to_string());
                    }
                }
            }
        }
        problems.retain(|rule, _| there.contains(rule));
        wanted
    }

    /// Begins to send by a rule, if it can.
    async fn begin(
        self: &Arc<Self>,
        logstore: &Arc<Logstore>,
        rule: ShippingRule,
        parsed: SiemRule,
    ) -> Option<Running> {
        let (rules, sought) = (Arc::clone(self), parsed.clone());
        // Before the stage is looked up: what is changed meanwhile is seen when a task is made.
        let revision = self.store.catalog().stages().revision;
        let outlet = match on_thread(move || rules.outlet(&sought, &rules.registry)).await {
            Ok(outlet) => outlet,
            Err(error) => {
                let known = self.problems().insert(rule.number(), error.to_string());
                if known.is_none_or(|known| known != error.to_string()) {
                    tracing::warn!(rule = rule.name, %error, "the rule can't send");
                }
                return None;
            }
        };
        let stage = self.stage(&parsed).unwrap_or_default().to_owned();
        let (identity, transforms) = (outlet.formatters.identity(), outlet.formatters.transforms());
        let stages = transforms.stages().chain([identity]);
        let (transform, pinned) = (parsed.transform.clone(), transforms.pinned());
        let record = SiemRecord {
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            stages: stages.map(|stage| format!("{} {}", stage.name(), stage.version())).collect(),
            digest: identity.digest().to_owned(),
            siem: SiemRule { transform: pinned, ..parsed },
        };
        // Names and texts: there is nothing that JSON can't hold.
        let plan = serde_json::to_string(&record).unwrap_or_default();
        let work = Work {
            rules: Arc::clone(self),
            rule: rule.clone(),
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            outlet,
            stage,
            transform,
            revision: AtomicI64::new(revision),
            plan,
            open: Mutex::default(),
        };
        let (work, stop) = (Arc::new(work), watch::Sender::new(false));
        let task = tokio::spawn(Arc::clone(&work).run(stop.subscribe()));
        Some(Running { stop, work, task })
    }
}

/// A rule that sends.
struct Running {
    stop: watch::Sender<bool>,
    work: Arc<Work>,
    task: JoinHandle<()>,
}

/// The work of a rule.
struct Work {
    rules: Arc<Rules>,
    rule: ShippingRule,
    project: String,
    logstore: String,
    outlet: Outlet,
    /// The name of the stage that formats.
    stage: String,
    /// What transforms the logs before.
    transform: Vec<Choice>,
    /// The revision of the names at which it was seen that the outlet has the stage that this one stands for.
    revision: AtomicI64,
    plan: String,
    /// Tasks on their way.
    open: Mutex<HashMap<TaskId, Open>>,
}

/// A task on its way.
struct Open {
    since: Instant,
    /// Whether it is shown as failed.
    told: bool,
    /// What formats it.
    formatters: Arc<Formatters>,
}

impl Work {
    fn store(&self) -> &Store {
        &self.rules.store
    }

    fn open(&self) -> MutexGuard<'_, HashMap<TaskId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds each shard that there is, until `stop`.
    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
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
    async fn is_current(self: &Arc<Self>) -> bool {
        let catalog = self.store().catalog();
        let rule =
            catalog.logstore(&self.project, &self.logstore).map(|found| found.rules.get(&self.rule.name));
        rule.is_ok_and(|rule| rule == Some(&self.rule)) && self.has_stage().await
    }

    /// Whether the outlet has the stages that their names stand for.
    async fn has_stage(self: &Arc<Self>) -> bool {
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
    async fn formatters_of(self: &Arc<Self>, task: &Task) -> Result<Option<Arc<Formatters>>, StoreError> {
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

    fn new_task(&self, shard: &Shard, begin: Place, end: Place, received: u64) -> NewTask {
        let id = TaskId { created: self.store().clock() * 1000, number: new_number() };
        let object = self.outlet.receiver.name().to_owned();
        let (plan, revision) = (self.plan.clone(), self.revision.load(Ordering::Relaxed));
        NewTask { id, shard: shard.number, begin, end, object, received, plan, revision }
    }
}

/// What a task is known by while it is on its way.
struct Mark {
    id: TaskId,
    end: Place,
}

/// Reads a shard of the store.
struct Stored {
    work: Arc<Work>,
    shard: Arc<Shard>,
    next: Place,
    /// Tasks to be done before.
    pending: VecDeque<Task>,
    reader: Option<ShardReader>,
}

/// What was read.
struct Read {
    chunks: Vec<Chunk>,
    next: Place,
    received: u64,
    bytes: usize,
}

/// What was read, as a task.
struct Taken {
    read: Read,
    id: TaskId,
    /// What formats it, if it is something else than what formats now.
    formatters: Option<Arc<Formatters>>,
}

impl Reader for Stored {
    type Mark = Mark;

    async fn next(&mut self, room: &Arc<Semaphore>) -> Result<Option<Load<Mark>>, Gone> {
        let mut backoff = Backoff::default();
        loop {
            let is_due = !self.pending.is_empty() || self.next.cursor < self.shard.end();
            if !is_due {
                sleep(PAUSE).await;
                continue;
            }
            let mut room = Room::take(room).await;
            // Now, not when it is looked next: what is put after a change is not sent by what was before.
            if !self.work.is_current().await {
                return Ok(None);
            }
            match self.take().await {
                Ok(Some(Taken { read, id, formatters })) => {
                    room.shrink(read.bytes);
                    let by = formatters.clone().unwrap_or_else(|| Arc::clone(&self.work.outlet.formatters));
                    let open = Open { since: Instant::now(), told: false, formatters: by };
                    self.work.open().insert(id, open);
                    let mark = Mark { id, end: read.next };
                    return Ok(Some(Load { chunks: read.chunks, mark, room, formatters }));
                }
                // A stage was swapped just now: is it this one's?
                Ok(None) | Err(TakeError::Store(StoreError::StagesChanged)) => {}
                Err(TakeError::Store(
                    StoreError::NoRule(_) | StoreError::NoLogstore(_) | StoreError::Closed,
                )) => {
                    return Err(Gone);
                }
                Err(error) => {
                    drop(room);
                    let wait = backoff.next();
                    self.work.outlet.receiver.fails(format!("shard {}: {error}", self.shard.number), wait);
                    sleep(wait).await;
                }
            }
        }
    }
}

/// Why there is no load.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Stored {
    /// The next load, with its task.
    async fn take(&mut self) -> Result<Option<Taken>, TakeError> {
        let store = Arc::clone(&self.work.rules.store);
        if let Some(task) = self.pending.front().cloned() {
            if task.begin.cursor < self.shard.begin() {
                self.expire(&task).await?;
                self.pending.pop_front();
                return Ok(None);
            }
            let read = self.read(task.begin, task.end.behind(), usize::MAX).await?;
            let formatters = self.work.formatters_of(&task).await?;
            store.resume_task(task.id).await?;
            self.pending.pop_front();
            return Ok(Some(Taken { read, id: task.id, formatters }));
        }
        if self.next.cursor < self.shard.begin() {
            self.skip_what_is_gone().await?;
            return Ok(None);
        }
        let read = self.read(self.next, self.shard.end(), LOAD).await?;
        if read.next == self.next {
            return Ok(None);
        }
        let task = self.work.new_task(&self.shard, self.next, read.next, read.received);
        let id = task.id;
        match store.begin_task(&self.work.rule, task).await {
            Ok(_) => {
                self.next = read.next;
                Ok(Some(Taken { read, id, formatters: None }))
            }
            Err(StoreError::Overtaken(next)) => {
                self.next = next;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads whole log groups, up to `end` and about as many bytes.
    async fn read(&mut self, from: Place, end: u64, most: usize) -> Result<Read, SourceError> {
        let (store, shard) = (Arc::clone(&self.work.rules.store), Arc::clone(&self.shard));
        let mut reader = self.reader.take().unwrap_or_default();
        let work = move || {
            let mut read = Read { chunks: vec![], next: from, received: 0, bytes: 0 };
            let result = loop {
                if read.next.cursor >= end || read.bytes >= most {
                    break Ok(());
                }
                let limits = Limits { groups: usize::MAX, bytes: CHUNK, end };
                match reader.read(&store, &shard, read.next.cursor, limits) {
                    Ok(slice) => {
                        // The time to live deletes, and only then moves the beginning: what is missing must not pass
                        // for sent.
                        let from = read.next.cursor;
                        match slice.groups.first() {
                            Some(&(first, _)) if first == from => {}
                            Some(&(first, _)) => break Err(SourceError::Deleted { from, to: first }),
                            None => break Err(SourceError::Deleted { from, to: end }),
                        }
                        read.bytes += slice.batch.bytes();
                        read.received = slice.received.max(read.received);
                        read.next = Place::at(slice.next.max(read.next.cursor + 1));
                        let place =
                            |&(cursor, logs): &(u64, u32)| (Position { cursor, group: 0, log: 0 }, logs);
                        let groups = slice.groups.iter().map(place).collect();
                        read.chunks.push(Chunk { batch: slice.batch, groups });
                    }
                    Err(error) => break Err(error),
                }
            };
            (reader, result.map(|()| read))
        };
        let (reader, result) = on_thread(work).await;
        self.reader = Some(reader);
        result
    }

    /// Logs that were deleted before they were sent become a task that failed for good: nothing is lost unseen.
    async fn skip_what_is_gone(&mut self) -> Result<(), StoreError> {
        let store = &self.work.rules.store;
        let oldest = Place::at(self.shard.begin());
        let task = self.work.new_task(&self.shard, self.next, oldest, 0);
        let id = task.id;
        match store.begin_task(&self.work.rule, task).await {
            Ok(_) => {
                let message = gone(self.next, oldest);
                tracing::error!(rule = self.work.rule.name, shard = self.shard.number, message);
                store.fail_task(id, "InternalServerError", &message, None).await?;
                self.next = oldest;
            }
            Err(StoreError::Overtaken(next)) => self.next = next,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The first logs of a task are gone: it fails for good, and what is left is sent by another.
    async fn expire(&mut self, task: &Task) -> Result<(), StoreError> {
        let store = &self.work.rules.store;
        let oldest = Place::at(self.shard.begin()).min(task.end);
        let message = gone(task.begin, oldest);
        tracing::error!(rule = self.work.rule.name, shard = self.shard.number, task = %task.id, message);
        let rest = self.work.new_task(&self.shard, oldest, task.end, task.received);
        let (id, object) = (rest.id, rest.object);
        let why = ("InternalServerError".to_owned(), message);
        if store.expire_task(task.id, oldest, why, (id, object)).await? {
            self.pending.push_back(store.task(id)?);
            self.pending.make_contiguous()[1..].sort_by_key(|task| task.begin);
        }
        Ok(())
    }
}

fn gone(from: Place, to: Place) -> String {
    format!(
        "its logs from cursor {from} to {to} were deleted by the time to live of the logstore before they were sent"
    )
}

/// Writes down that tasks are done.
struct Tasks {
    work: Arc<Work>,
}

impl Ledger<Mark> for Tasks {
    async fn done(&mut self, mark: Mark, sent: Sent) -> Result<(), Gone> {
        let seal = Seal {
            // Those that the transformers left out are not among them.
            rows: sent.messages + sent.dead,
            raw_bytes: sent.raw,
            stored_bytes: sent.bytes,
            // There is no object to compare.
            sha256: String::new(),
        };
        let mut backoff = Backoff::default();
        self.work.open().remove(&mark.id);
        loop {
            match self.write_down(&mark, &seal).await {
                Ok(()) => return Ok(()),
                // Its rule was deleted meanwhile.
                Err(StoreError::NoTask(_) | StoreError::Closed) => return Err(Gone),
                Err(error) => {
                    let wait = backoff.next();
                    tracing::error!(task = %mark.id, %error, ?wait, "that a task is done can't be written down");
                    sleep(wait).await;
                }
            }
        }
    }
}

impl Tasks {
    async fn write_down(&self, mark: &Mark, seal: &Seal) -> Result<(), StoreError> {
        match self.succeed(mark, seal).await {
            // It is shown as failed, perhaps just now, because the receiver did not take it for long.
            Err(StoreError::NoTask(_)) => {
                self.work.store().resume_task(mark.id).await?;
                self.succeed(mark, seal).await
            }
            done => done,
        }
    }

    async fn succeed(&self, mark: &Mark, seal: &Seal) -> Result<(), StoreError> {
        let store = self.work.store();
        // It has the whole of its range: there is no rest.
        store.seal_task(mark.id, mark.end, seal.clone(), (mark.id, String::new())).await?;
        store.succeed_task(mark.id).await
    }
}
