//! Creation of due tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use logship_logstore::{Limits, LogPosition, Logstore, NewTask, Shard, StoreError, Task, TaskId};

use crate::engine::error::TaskError;
use crate::engine::plan::{Plan, record_swap_wait};
use crate::engine::queue::DueTask;
use crate::engine::schedule::{Due, SAMPLE};
use crate::engine::{EncodingPermit, Shipper};
use crate::objects::object::new_number;
use crate::pipeline;
use logship_runtime::stage::StageError;
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader};

/// Delay before the next attempt of a rule that failed to create a task, in seconds.
const RULE_RETRY_SECONDS: u64 = 30;

/// The result of creating a task.
enum Creation {
    /// The task is on disk.
    Created(Box<Task>),
    /// The task was not due.
    NotDue,
    /// Another start of the shard's next task.
    NextAt(LogPosition),
}

impl Shipper {
    /// Creates a due task and runs it. Returns true if its destination failed; `None` if it was not called.
    pub(super) fn create(
        &self,
        due_task: &DueTask,
        reader: &mut ShardReader,
        permit: EncodingPermit<'_>,
    ) -> Option<bool> {
        let (key, rule) = (due_task.key(), &due_task.rule);
        let (project, logstore) = (&due_task.logstore.project, &due_task.logstore.name);
        let catalog = self.store.catalog();
        let is_same = |logstore: &Arc<Logstore>| logstore.rules.get(&rule.name) == Some(rule);
        if !catalog.logstore(project, logstore).is_ok_and(is_same) {
            // The rule changed while the job was queued, so the shard may not be due any more.
            self.lock().release_shard(key);
            return None;
        }
        if self.is_blocked(&due_task.logstore, rule) {
            self.lock().release_shard(key);
            return None;
        }
        match self.plan_and_create(due_task, reader) {
            Ok((Creation::Created(task), plan)) => {
                self.lock().unblock(rule.number());
                return self.attempt(&task, &plan, reader, permit, Some(key));
            }
            Ok((Creation::NotDue, _)) => {
                self.lock().release_shard(key);
                self.wake();
            }
            Ok((Creation::NextAt(next), _)) => {
                self.lock().advance(key, next);
                self.wake();
            }
            Err(error) => {
                if !error.is_interrupted() {
                    tracing::warn!(rule = rule.name, logstore, shard = key.1, %error, "can't create a task");
                    self.lock().block(
                        rule.number(),
                        error.to_string(),
                        self.store.clock() / 1_000_000 + RULE_RETRY_SECONDS,
                    );
                }
                self.lock().release_shard(key);
                // A rule whose stage fails or times out gets a single worker.
                return error.stage().map(|_| true);
            }
        }
        None
    }

    /// Creates the due task with the stage aliases of this moment. Repeats if they change meanwhile.
    fn plan_and_create(
        &self,
        due_task: &DueTask,
        reader: &mut ShardReader,
    ) -> Result<(Creation, Arc<Plan>), TaskError> {
        let (project, logstore) = (&due_task.logstore.project, &due_task.logstore.name);
        loop {
            let begun = Instant::now();
            let revision = self.store.catalog().stages().revision;
            let plan = self.plans.current(project, logstore, &due_task.rule, revision)?;
            match self.create_task(due_task, &plan, revision, reader) {
                Err(TaskError::Store(StoreError::StagesChanged)) => record_swap_wait(begun),
                made => return Ok((made?, plan)),
            }
        }
    }

    /// Creates the due task, if it still is due.
    fn create_task(
        &self,
        due_task: &DueTask,
        plan: &Plan,
        revision: i64,
        reader: &mut ShardReader,
    ) -> Result<Creation, TaskError> {
        let DueTask { rule, shard, backlog, due, .. } = due_task;
        if backlog.next.cursor < shard.begin() {
            return self.record_expired(due_task, plan, revision).map(Creation::NextAt);
        }
        if *due == Due::Sample {
            let expansion_ratio = self.sample_expansion_ratio(plan, shard, backlog.next, reader)?;
            self.lock().set_expansion_ratio(due_task.key(), expansion_ratio);
            return Ok(Creation::NotDue);
        }
        let (id, object) = self.new_task_id(plan, shard.number)?;
        let new = NewTask {
            id,
            shard: shard.number,
            begin: backlog.next,
            end: LogPosition::at(backlog.measured.next),
            object,
            received: backlog.measured.newest,
            plan: plan.content.clone(),
            revision,
        };
        self.lock().mark_task(id);
        match self.runtime.block_on(self.store.begin_task(rule, new)) {
            Ok(task) => Ok(Creation::Created(Box::new(task))),
            Err(error) => {
                self.lock().unmark_task(id);
                match error {
                    // A retried task covered less than its range.
                    StoreError::NextTaskMoved(next) => Ok(Creation::NextAt(next)),
                    error => Err(error.into()),
                }
            }
        }
    }

    /// Returns a new task id and the object key, which is empty for partitioned rules.
    pub(super) fn new_task_id(&self, plan: &Plan, shard: u32) -> Result<(TaskId, String), StageError> {
        // Strictly increasing, even if the clock stands still or is set back.
        let now = self.store.clock() * 1000;
        let last = self.last_id.fetch_max(now, Ordering::Relaxed);
        let created = if last < now { now } else { self.last_id.fetch_add(1, Ordering::Relaxed) + 1 };
        let id = TaskId { created, number: new_number() };
        let task = pipeline::Task { created: id.created, number: id.number, shard };
        Ok((id, plan.pipeline.task_key(&task)?))
    }

    /// Records logs that were deleted before they were shipped as a permanently failed task, so that the loss is
    /// visible.
    fn record_expired(
        &self,
        due_task: &DueTask,
        plan: &Plan,
        revision: i64,
    ) -> Result<LogPosition, TaskError> {
        let (from, to) = (due_task.backlog.next, LogPosition::at(due_task.shard.begin()));
        let (id, object) = self.new_task_id(plan, due_task.shard.number)?;
        let new = NewTask {
            id,
            shard: due_task.shard.number,
            begin: from,
            end: to,
            object,
            received: 0,
            plan: plan.content.clone(),
            revision,
        };
        let error = TaskError::Expired { from: from.cursor, to: to.cursor };
        tracing::error!(rule = due_task.rule.name, shard = due_task.shard.number, %error);
        let recorded = self.runtime.block_on(async {
            self.store.begin_task(&due_task.rule, new).await?;
            self.store.fail_task(id, error.code(), &error.to_string(), None).await
        });
        match recorded {
            Ok(()) => Ok(to),
            Err(StoreError::NextTaskMoved(next)) => Ok(next),
            Err(error) => Err(error.into()),
        }
    }

    /// Measures the expansion ratio on the next logs of a shard.
    fn sample_expansion_ratio(
        &self,
        plan: &Plan,
        shard: &Shard,
        from: LogPosition,
        reader: &mut ShardReader,
    ) -> Result<f64, TaskError> {
        let mut encoding = plan.pipeline.open()?;
        let (mut at, end) = (from.cursor, shard.end());
        let measured = self.store.backlog(shard, at, SAMPLE)?;
        while at < measured.next {
            let slice = reader.read(
                &self.store,
                shard,
                at,
                Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end },
            )?;
            at = slice.next;
            match encoding.transform(&slice.batch, 0..slice.batch.len())? {
                None => encoding.push(&slice.batch)?,
                Some(made) => encoding.push(&made.batch)?,
            };
        }
        Ok(encoding.size()? as f64 / measured.bytes.max(1) as f64)
    }
}
