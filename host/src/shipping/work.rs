//! One task: from the logs of a shard to an object at its destination.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use logship_logstore::{
    CONFIG_NOT_EXIST, Limits, Logstore, NewTask, Place, Seal, Shard, StoreError, Task, TaskId,
};

use super::plan::{Plan, PlanError, Plans, waited_for_swap};
use super::queue::Begin;
use super::schedule::{Due, SAMPLE, next_try, next_try_after};
use super::{Shipper, Slot};
use crate::destination::{Destination, DestinationError, Provenance};
use crate::group_list::GroupList;
use crate::object::{self, Object, ObjectError, Shipped, new_number};
use crate::pipeline::{self, PipelineError};
use crate::source::{CHUNK, ShardReader, SourceError};
use crate::stage::{Identity, StageError};

/// Seconds until a rule that can't make tasks is tried again.
const HOLD: u64 = 30;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    /// Its stages can't be had.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The destination failed.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Its logs can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its logs are no more.
    #[error(
        "its logs from cursor {from} to {to} were deleted by the time to live of the logstore before they were shipped"
    )]
    Expired {
        /// The first that is missing.
        from: u64,
        /// The first that is there.
        to: u64,
    },
    /// The store failed: the disk, as a rule.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The service ends; the task goes on with the next start.
    #[error("the service ends")]
    Ended,
}

impl From<ObjectError> for TaskError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Stage(error) => error.into(),
            ObjectError::Destination(error) => error.into(),
        }
    }
}

impl TaskError {
    /// What Log Service calls it.
    fn code(&self) -> &'static str {
        match self {
            Self::Destination(error) | Self::Plan(PlanError::Destination(error)) => error.code(),
            Self::Store(StoreError::NoRule(_)) => CONFIG_NOT_EXIST,
            _ => "InternalServerError",
        }
    }

    /// The digest of the stage that failed, if one did.
    pub(super) fn stage(&self) -> Option<&str> {
        let error = match self {
            Self::Stage(error) | Self::Plan(PlanError::Pipeline(PipelineError::Stage(error))) => error,
            Self::Plan(PlanError::Pipeline(PipelineError::Transform(error))) => &error.source,
            _ => return None,
        };
        error.stage().map(Identity::digest)
    }

    /// Whether it can be another time.
    fn can_pass(&self) -> bool {
        match self {
            Self::Destination(DestinationError::Function(error)) => error.can_pass(),
            Self::Expired { .. } | Self::Store(StoreError::NoRule(_) | StoreError::NoLogstore(_)) => false,
            _ => true,
        }
    }

    /// How many seconds the destination asks to be left alone.
    fn rest(&self) -> Option<u64> {
        match self {
            Self::Destination(DestinationError::Function(error)) => Some(error.rest()?.as_secs()),
            _ => None,
        }
    }

    /// Whether the destination did not do what it was asked for, if it was asked: others need not ask it now.
    fn destination_failed(&self) -> Option<bool> {
        match self {
            // What it never takes says nothing of it.
            Self::Destination(DestinationError::Function(error)) => Some(error.can_pass()),
            // One whose stage fails, or does not end, holds up the others as little as one whose destination does.
            Self::Destination(_) | Self::Stage(_) => Some(true),
            _ => None,
        }
    }

    /// Whether it is no failure of the task: it stays as it is, and the next start goes on with it.
    fn leaves_it(&self) -> bool {
        matches!(self, Self::Ended | Self::Store(StoreError::Closed | StoreError::NoTask(_)))
    }
}

/// What a task has come to, when the next of its shard can begin.
pub(super) enum Begun {
    /// Its object, sealed.
    Object(object::Made),
    /// No log was left for an object: how many its rule's transformers left out.
    Nothing(u64),
    /// Its logs, for a function.
    Call(GroupList),
    /// Its object is at its destination already.
    Done,
}

/// What came of a task that was to be made.
enum Made {
    /// It is there.
    Task(Box<Task>),
    /// It was not due after all.
    Nothing,
    /// The shard's next task begins here.
    Free(Place),
}

impl Shipper {
    /// Makes a task in a shard that one is due in, and does it. Whether its destination failed, if it was asked.
    pub(super) fn begin(&self, begin: &Begin, reader: &mut ShardReader, slot: Slot<'_>) -> Option<bool> {
        let (key, rule) = (begin.key(), &begin.rule);
        let (project, logstore) = (&begin.logstore.project, &begin.logstore.name);
        let catalog = self.store.catalog();
        let is_same = |logstore: &Arc<Logstore>| logstore.rules.get(&rule.name) == Some(rule);
        if !catalog.logstore(project, logstore).is_ok_and(is_same) {
            // It was changed while this waited: by what it is now, the shard may not be due.
            self.lock().put_back(key);
            return None;
        }
        if self.is_held(&begin.logstore, rule) {
            self.lock().put_back(key);
            return None;
        }
        match self.plan_and_make(begin, reader) {
            Ok((Made::Task(task), plan)) => {
                self.lock().release(rule.number());
                return self.attempt(&task, &plan, reader, slot, Some(key));
            }
            Ok((Made::Nothing, _)) => {
                self.lock().put_back(key);
                self.hurry();
            }
            Ok((Made::Free(next), _)) => {
                self.lock().free(key, next);
                self.hurry();
            }
            Err(error) => {
                if !error.leaves_it() {
                    tracing::warn!(rule = rule.name, logstore, shard = key.1, %error, "no task can be made");
                    self.lock().hold(rule.number(), error.to_string(), self.store.clock() / 1_000_000 + HOLD);
                }
                self.lock().put_back(key);
                // One whose stage fails, or does not end, has no more than one worker.
                return error.stage().map(|_| true);
            }
        }
        None
    }

    /// The task that is due, by what names of stages stand for when it is made.
    fn plan_and_make(&self, begin: &Begin, reader: &mut ShardReader) -> Result<(Made, Arc<Plan>), TaskError> {
        let (project, logstore) = (&begin.logstore.project, &begin.logstore.name);
        loop {
            let begun = Instant::now();
            let revision = self.store.catalog().stages().revision;
            let plan = self.plans.current(project, logstore, &begin.rule, revision)?;
            match self.make(begin, &plan, revision, reader) {
                Err(TaskError::Store(StoreError::StagesChanged)) => waited_for_swap(begun),
                made => return Ok((made?, plan)),
            }
        }
    }

    /// The task that is due, if it still is.
    fn make(
        &self,
        begin: &Begin,
        plan: &Plan,
        revision: i64,
        reader: &mut ShardReader,
    ) -> Result<Made, TaskError> {
        let Begin { rule, shard, waiting, due, .. } = begin;
        if waiting.next.cursor < shard.begin() {
            return self.tell_of_expired(begin, plan, revision).map(Made::Free);
        }
        if *due == Due::Sample {
            let growth = self.sample(plan, shard, waiting.next, reader)?;
            self.lock().learn(begin.key(), growth);
            return Ok(Made::Nothing);
        }
        let (id, object) = self.name(plan, shard.number)?;
        let new = NewTask {
            id,
            shard: shard.number,
            begin: waiting.next,
            end: Place::at(waiting.measured.next),
            object,
            received: waiting.measured.newest,
            plan: plan.content.clone(),
            revision,
        };
        self.lock().made(id);
        match self.runtime.block_on(self.store.begin_task(rule, new)) {
            Ok(task) => Ok(Made::Task(Box::new(task))),
            Err(error) => {
                self.lock().ended(id);
                match error {
                    // What a task that was tried again left over.
                    StoreError::Overtaken(next) => Ok(Made::Free(next)),
                    error => Err(error.into()),
                }
            }
        }
    }

    /// A new id, and the key of its object.
    pub(super) fn name(&self, plan: &Plan, shard: u32) -> Result<(TaskId, String), StageError> {
        // Never the same twice, also where the clock stands still or is set back: the newest is the newest.
        let now = self.store.clock() * 1000;
        let last = self.last_id.fetch_max(now, Ordering::Relaxed);
        let created = if last < now { now } else { self.last_id.fetch_add(1, Ordering::Relaxed) + 1 };
        let id = TaskId { created, number: new_number() };
        let task = pipeline::Task { created: id.created, number: id.number, shard };
        Ok((id, plan.pipeline.key(&task)?))
    }

    /// Logs that were deleted before they were shipped become a task that failed for good: nothing is lost unseen.
    fn tell_of_expired(&self, begin: &Begin, plan: &Plan, revision: i64) -> Result<Place, TaskError> {
        let (from, to) = (begin.waiting.next, Place::at(begin.shard.begin()));
        let (id, object) = self.name(plan, begin.shard.number)?;
        let new = NewTask {
            id,
            shard: begin.shard.number,
            begin: from,
            end: to,
            object,
            received: 0,
            plan: plan.content.clone(),
            revision,
        };
        let error = TaskError::Expired { from: from.cursor, to: to.cursor };
        tracing::error!(rule = begin.rule.name, shard = begin.shard.number, %error);
        let told = self.runtime.block_on(async {
            self.store.begin_task(&begin.rule, new).await?;
            self.store.fail_task(id, error.code(), &error.to_string(), None).await
        });
        match told {
            Ok(()) => Ok(to),
            Err(StoreError::Overtaken(next)) => Ok(next),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes of an object for each byte of logs, by those that come next.
    fn sample(
        &self,
        plan: &Plan,
        shard: &Shard,
        from: Place,
        reader: &mut ShardReader,
    ) -> Result<f64, TaskError> {
        let mut encoding = plan.pipeline.open()?;
        let (mut at, end) = (from.cursor, shard.end());
        let measured = self.store.measure(shard, at, SAMPLE)?;
        while at < measured.next {
            let slice =
                reader.read(&self.store, shard, at, Limits { groups: usize::MAX, bytes: CHUNK, end })?;
            at = slice.next;
            match encoding.transform(&slice.batch, 0..slice.batch.len())? {
                None => encoding.push(&slice.batch)?,
                Some(made) => encoding.push(&made.batch)?,
            };
        }
        Ok(encoding.size()? as f64 / measured.bytes.max(1) as f64)
    }

    /// Tries a task that was tried before. Whether its destination failed, if it was asked.
    pub(super) fn resume(&self, id: TaskId, reader: &mut ShardReader, slot: Slot<'_>) -> Option<bool> {
        let task = match self.runtime.block_on(self.store.resume_task(id)) {
            Ok(task) => task,
            Err(error) => {
                tracing::debug!(task = %id, %error, "not tried");
                self.lock().ended(id);
                return None;
            }
        };
        match self.planned(&task) {
            Ok((task, plan)) => self.attempt(&task, &plan, reader, slot, None),
            Err(error) => {
                self.settle(&task, Err(error));
                None
            }
        }
    }

    /// What a task is made by: what it was made with, as long as that works. One that failed in its stage, and of whose
    /// object nothing is sealed, is made by the rule as it is now.
    fn planned(&self, task: &Task) -> Result<(Task, Arc<Plan>), TaskError> {
        if task.stage.is_some() && task.seal.is_none() && !task.is_cut {
            let catalog = self.store.catalog();
            let rule = catalog.logstore(&task.project, &task.logstore)?.rule(&task.rule)?;
            let now = self.plans.current(&task.project, &task.logstore, rule, catalog.stages().revision);
            if let Ok(plan) = now
                && plan.content != self.store.plan(task.plan)?
            {
                let TaskId { created, number } = task.id;
                let key = plan.pipeline.key(&pipeline::Task { created, number, shard: task.shard })?;
                let replanned = self.store.replan_task(task.id, &plan.content, &key);
                return Ok((self.runtime.block_on(replanned)?, plan));
            }
        }
        Ok((task.clone(), self.plan_of(task)?))
    }

    /// What a task was made with.
    fn plan_of(&self, task: &Task) -> Result<Arc<Plan>, TaskError> {
        let catalog = self.store.catalog();
        let rule = catalog.logstore(&task.project, &task.logstore)?.rule(&task.rule)?;
        let now = Plans::rule(&rule.name, &rule.target, &rule.configuration).ok();
        Ok(self.plans.stored(&self.store.plan(task.plan)?, now.as_ref())?)
    }

    /// Does a task, and writes down what came of it. `key` is the shard that waits until the task's end is known.
    fn attempt(
        &self,
        task: &Task,
        plan: &Arc<Plan>,
        reader: &mut ShardReader,
        slot: Slot<'_>,
        key: Option<(i64, u32)>,
    ) -> Option<bool> {
        let made = match &plan.destination {
            Destination::Function(function) => self.make_call(task, plan, function),
            _ => self.make_object(task, plan, reader),
        };
        if let Some(key) = key {
            // Also after a failure: the task keeps its range, and what comes next is not held up.
            let next = made.as_ref().map_or(task.end, |(_, end)| *end);
            self.lock().free(key, next);
            self.hurry();
        } else if let Ok((_, end)) = &made
            && *end < task.end
        {
            self.lock().rewind((task.rule_number, task.shard), *end);
            self.hurry();
        }
        drop(slot);
        let left_out = match &made {
            Ok((Begun::Object(made), _)) => made.left_out,
            Ok((Begun::Nothing(logs), _)) => *logs,
            _ => 0,
        };
        let is_asked = !matches!(made, Ok((Begun::Nothing(_), _)));
        let result = made.and_then(|(made, end)| match made {
            Begun::Object(made) => {
                let provenance = provenance(task, end, stages_of(plan), &made);
                self.publish(task, plan, made, &provenance)
            }
            Begun::Call(logs) => self.call(task, plan, logs),
            Begun::Nothing(_) | Begun::Done => Ok(None),
        });
        let result = result.map(|shipped| {
            shipped.iter().for_each(|shipped| count_shipped(task, shipped));
            count_left_out(task, left_out);
        });
        let failed = match &result {
            Ok(()) => is_asked.then_some(false),
            Err(error) => error.destination_failed(),
        };
        self.settle(task, result);
        failed
    }

    /// The object of a task, sealed, and where it ends. No object if it is at its destination already, or if no log is left
    /// for it.
    fn make_object(
        &self,
        task: &Task,
        plan: &Plan,
        reader: &mut ShardReader,
    ) -> Result<(Begun, Place), TaskError> {
        self.at(Step::Begun);
        if self.is_there(task, plan)? {
            return Ok((Begun::Done, task.end));
        }
        let shard = self.shard(task)?;
        let (object, end, read) = self.encode(task, plan, &shard, reader)?;
        if read > SAMPLE / 4 {
            self.lock().learn((task.rule_number, task.shard), object.size() as f64 / read as f64);
        }
        if object.rows() == 0 {
            self.at(Step::Made);
            self.seal(task, plan, end, Seal::default())?;
            return Ok((Begun::Nothing(object.left_out()), end));
        }
        let made = object.finish()?;
        self.at(Step::Made);
        let seal = Seal {
            rows: made.rows,
            raw_bytes: made.raw_bytes,
            stored_bytes: made.whole.bytes,
            sha256: made.whole.sha256.clone(),
        };
        self.seal(task, plan, end, seal)?;
        Ok((Begun::Object(made), end))
    }

    /// Whether the object of a task is at its destination, as it was before; or there is to be none.
    pub(super) fn is_there(&self, task: &Task, plan: &Plan) -> Result<bool, TaskError> {
        let Some(seal) = &task.seal else { return Ok(false) };
        if *seal == Seal::default() {
            return Ok(true);
        }
        match plan.destination.find(&task.object) {
            Ok(Some(found)) if found.sha256 == seal.sha256 => Ok(true),
            Ok(Some(_)) => Err(DestinationError::Exists(task.object.clone()).into()),
            Ok(None) => Ok(false),
            // Who may only write, or not even look, finds out by writing.
            Err(DestinationError::Denied(_) | DestinationError::Unseen(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down what the object of a task is, and where the task ends.
    pub(super) fn seal(&self, task: &Task, plan: &Plan, end: Place, seal: Seal) -> Result<(), TaskError> {
        if let Some(before) = task.seal.as_ref().filter(|before| **before != seal) {
            tracing::warn!(task = %task.id, sha256 = seal.sha256, before = before.sha256, "a stage made other bytes than before; none were at the destination");
        }
        let rest = self.name(plan, task.shard)?;
        let rest_id = rest.0;
        if self.runtime.block_on(self.store.seal_task(task.id, end, seal, rest))? {
            self.lock().resume(task.rule_number, rest_id);
        }
        self.at(Step::Sealed);
        Ok(())
    }

    /// Encodes the logs of a task, as many as its object takes. Returns where it ends, and how many bytes were read.
    fn encode(
        &self,
        task: &Task,
        plan: &Plan,
        shard: &Shard,
        reader: &mut ShardReader,
    ) -> Result<(Object, Place, u64), TaskError> {
        let rule = &plan.record.rule;
        let mut object = Object::begin(&plan.pipeline, &plan.destination, task.object.clone(), rule.size())?;
        let limits = Limits { groups: usize::MAX, bytes: CHUNK, end: task.end.behind() };
        let (mut at, mut read) = (task.begin, 0);
        while at < task.end {
            if self.has_ended() {
                return Err(TaskError::Ended);
            }
            let slice = reader.read(&self.store, shard, at.cursor, limits)?;
            match slice.groups.first() {
                Some(&(first, _)) if first == at.cursor => {}
                other => {
                    let to = other.map_or(shard.begin(), |&(first, _)| first);
                    return Err(TaskError::Expired { from: at.cursor, to });
                }
            }
            let end = slice.logs_before(task.end);
            let taken = object.take(&slice.batch, at.log as usize..end)?;
            read += slice.batch.bytes() as u64;
            at = slice.place(taken);
            if taken < end {
                break;
            }
        }
        Ok((object, at, read))
    }

    /// Brings an object to its destination.
    pub(super) fn publish(
        &self,
        task: &Task,
        plan: &Plan,
        made: object::Made,
        provenance: &Provenance,
    ) -> Result<Option<Shipped>, TaskError> {
        let sha256 = made.whole.sha256.clone();
        let published = made.publish(&plan.pipeline, &plan.destination, task.shard, provenance);
        let shipped = match published {
            Ok(shipped) => Some(shipped),
            // It may be there all the same, from this time or an earlier one that could not say so. The key has the
            // task's number in it; who may only write can't look, and takes it for that.
            Err(error @ (DestinationError::Exists(_) | DestinationError::Remote(_))) => {
                let found = plan.destination.find(&task.object);
                let is_there = match (&error, found) {
                    (_, Ok(Some(found))) => found.sha256 == sha256,
                    (DestinationError::Exists(_), Err(DestinationError::Denied(_))) => true,
                    _ => false,
                };
                if !is_there || !is_of(&task.object, task.id) {
                    return Err(error.into());
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.at(Step::Published);
        Ok(shipped)
    }

    /// Writes down what came of a task.
    fn settle(&self, task: &Task, result: Result<(), TaskError>) {
        let written = match &result {
            Ok(()) => self.runtime.block_on(self.store.succeed_task(task.id)),
            Err(error) if error.leaves_it() => Ok(()),
            Err(error @ TaskError::Expired { to, .. }) => self.expire(task, error, Place::at(*to)),
            Err(error) => {
                let now = self.store.clock() / 1_000_000;
                let created = task.id.created / 1_000_000_000;
                let (first, within) = (self.settings.retry_seconds, self.settings.retry_for_seconds);
                let tries = task.failures + 1;
                let next = match error.rest() {
                    None => next_try(tries, created, now, first, within),
                    Some(rest) => next_try_after(rest, tries, created, now, first, within),
                };
                let next = next.filter(|_| error.can_pass());
                tracing::warn!(task = %task.id, rule = task.rule, shard = task.shard, code = error.code(), %error, "a task failed");
                let next = next.map(|next| next * 1_000_000);
                let (stage, code, message) = (error.stage(), error.code(), cut(error.to_string()));
                self.runtime.block_on(self.store.fail_task_in(task.id, stage, code, &message, next))
            }
        };
        if let Err(error) = written {
            // The next start finds it running, and does it again.
            tracing::error!(task = %task.id, %error, "what came of a task can't be written down");
        }
        self.count(task, &result);
        self.judge(task, &result);
        self.at(Step::Settled);
        self.lock().ended(task.id);
    }

    /// The logs of a task up to `to` are no more. The others still are.
    fn expire(&self, task: &Task, error: &TaskError, to: Place) -> Result<(), StoreError> {
        tracing::error!(task = %task.id, rule = task.rule, shard = task.shard, %error);
        let rest = self.plan_of(task).and_then(|plan| Ok(self.name(&plan, task.shard)?));
        let Ok((id, object)) = rest else {
            return self.runtime.block_on(self.store.fail_task(
                task.id,
                error.code(),
                &error.to_string(),
                None,
            ));
        };
        let why = (error.code().to_owned(), error.to_string());
        if self.runtime.block_on(self.store.expire_task(task.id, to, why, (id, object)))? {
            self.lock().resume(task.rule_number, id);
        }
        Ok(())
    }

    fn count(&self, task: &Task, result: &Result<(), TaskError>) {
        // The same names as in `service/metrics.rs`, which says what they are.
        let status = match result {
            Ok(()) => "success",
            Err(error) if error.leaves_it() => return,
            Err(_) => "fail",
        };
        let mut with_status = labels(task).to_vec();
        with_status.push(("status", status.to_owned()));
        metrics::counter!("logship_tasks_total", &with_status).increment(1);
    }

    pub(super) fn shard(&self, task: &Task) -> Result<Arc<Shard>, TaskError> {
        let catalog = self.store.catalog();
        Ok(Arc::clone(catalog.logstore(&task.project, &task.logstore)?.shard(task.shard)?))
    }
}

fn labels(task: &Task) -> [(&'static str, String); 3] {
    [("project", task.project.clone()), ("logstore", task.logstore.clone()), ("rule", task.rule.clone())]
}

fn count_left_out(task: &Task, logs: u64) {
    if logs > 0 {
        metrics::counter!("logship_left_out_logs_total", &labels(task)).increment(logs);
    }
}

fn count_shipped(task: &Task, shipped: &Shipped) {
    let labels = labels(task);
    metrics::counter!("logship_shipped_logs_total", &labels).increment(shipped.rows);
    metrics::counter!("logship_shipped_bytes_total", &labels).increment(shipped.stored_bytes);
}

/// The moments between two writes of a task: tests end the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is on disk.
    Begun,
    /// Its range is what it will be, as a function needs it.
    Cut,
    /// Its object is in a file without a name.
    Made,
    /// What that file hashes to is on disk.
    Sealed,
    /// The object is at its destination.
    Published,
    /// That is on disk, too.
    Settled,
}

/// A message, as long as it is read: what a stage says may be of any length.
fn cut(message: String) -> String {
    const LONGEST: usize = 2000;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &message[..end]),
        None => message,
    }
}

fn is_of(object: &str, id: TaskId) -> bool {
    object.contains(&id.to_string())
}

/// The stages of a plan: name, version and digest of each.
fn stages_of(plan: &Plan) -> String {
    let stages = plan.pipeline.stages();
    let stages =
        stages.map(|stage| format!("{}@{} sha256:{}", stage.name(), stage.version(), stage.digest()));
    stages.collect::<Vec<_>>().join(", ")
}

/// What the metadata of an object say.
pub(super) fn provenance(task: &Task, end: Place, stages: String, made: &object::Made) -> Provenance {
    vec![
        ("logship-task", task.id.to_string()),
        ("logship-source", format!("{}/{}/{}", task.project, task.logstore, task.shard)),
        ("logship-range", format!("{}-{end}", task.begin)),
        ("logship-stages", stages),
        ("logship-rows", made.rows.to_string()),
        ("logship-sha256", made.whole.sha256.clone()),
    ]
}
