//! Tasks that are due: made, and begun.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use logship_logstore::{Limits, Logstore, NewTask, Place, Shard, StoreError, Task, TaskId};

use super::error::TaskError;
use super::plan::{Plan, waited_for_swap};
use super::queue::Begin;
use super::schedule::{Due, SAMPLE};
use super::{Shipper, Slot};
use crate::object::new_number;
use crate::pipeline;
use crate::source::{CHUNK, ShardReader};
use crate::stage::StageError;

/// Seconds until a rule that can't make tasks is tried again.
const HOLD: u64 = 30;

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

    /// A new id, and the key of its object, if it is known already.
    pub(super) fn name(&self, plan: &Plan, shard: u32) -> Result<(TaskId, String), StageError> {
        // Never the same twice, also where the clock stands still or is set back: the newest is the newest.
        let now = self.store.clock() * 1000;
        let last = self.last_id.fetch_max(now, Ordering::Relaxed);
        let created = if last < now { now } else { self.last_id.fetch_add(1, Ordering::Relaxed) + 1 };
        let id = TaskId { created, number: new_number() };
        let task = pipeline::Task { created: id.created, number: id.number, shard };
        Ok((id, plan.pipeline.task_key(&task)?))
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
}
