//! Creation of due tasks.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use logship_logstore::{LogPosition, Logstore, Shard, StoreError, Task};
use logship_source::shard_reader::{ShardReader, SourceError};

use crate::engine::DeliveryEngine;
use crate::engine::batch::EncodingPermit;
use crate::engine::batch::logs::LogSample;
use crate::engine::batch::queue::DueTask;
use crate::engine::batch::schedule::{Due, SAMPLE};
use crate::engine::error::TaskError;
use crate::engine::lifecycle;
use crate::engine::metrics::record_swap_wait;
use crate::engine::panics;
use crate::engine::work::BatchPlan;

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

impl DeliveryEngine {
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
        if self.is_paused(&due_task.logstore, rule) {
            self.lock().release_shard(key);
            return None;
        }
        match panics::catch(|| self.plan_and_create(due_task, reader)) {
            Ok((Creation::Created(task), plan)) => {
                self.pauses.unblock(rule.number());
                return self.attempt(&task, &plan, reader, permit, Some(key));
            }
            Ok((Creation::NotDue, _)) => {
                self.lock().release_shard(key);
                self.wake_pool();
            }
            Ok((Creation::NextAt(next), _)) => {
                self.lock().advance(key, next);
                self.wake_pool();
            }
            Err(error) => {
                if !error.is_interrupted() {
                    tracing::warn!(rule = rule.name, logstore, shard = key.1, %error, "can't create a task");
                    let until = self.store.clock() / 1_000_000 + RULE_RETRY_SECONDS;
                    self.pauses.pause(rule.number(), error.to_string(), until);
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
    ) -> Result<(Creation, Arc<dyn BatchPlan>), TaskError> {
        let (project, logstore) = (&due_task.logstore.project, &due_task.logstore.name);
        loop {
            let begun = Instant::now();
            let revision = self.store.catalog().stages().revision;
            let plan = self.current_plan(project, logstore, &due_task.rule, revision)?;
            match self.create_task(due_task, &*plan, revision, reader) {
                Err(TaskError::Store(StoreError::StagesChanged)) => record_swap_wait(begun),
                made => return Ok((made?, plan)),
            }
        }
    }

    /// Creates the due task, if it still is due.
    fn create_task(
        &self,
        due_task: &DueTask,
        plan: &dyn BatchPlan,
        revision: i64,
        reader: &mut ShardReader,
    ) -> Result<Creation, TaskError> {
        let DueTask { rule, shard, backlog, due, .. } = due_task;
        if shard.groups_between(backlog.next.cursor, shard.begin()) > 0 {
            return self.record_expired(due_task, plan, revision).map(Creation::NextAt);
        }
        if *due == Due::Sample {
            let sampled = self.sample_expansion_ratio(plan, shard, backlog.next, reader);
            let expansion_ratio = match sampled {
                // The task itself fails, and names the damage.
                Err(TaskError::Source(SourceError::Store(StoreError::Damaged(_)))) => 1.0,
                sampled => sampled?,
            };
            self.lock().set_expansion_ratio(due_task.key(), expansion_ratio);
            return Ok(Creation::NotDue);
        }
        let range = backlog.next..LogPosition::at(backlog.measured.next);
        let received = backlog.measured.newest;
        let task = self.lifecycle.new_task(plan, revision, shard.number, range, received)?;
        let id = task.id;
        self.lock().mark_task(id);
        let creation = self.pool.creation.read().unwrap_or_else(PoisonError::into_inner);
        let created = self.runtime.block_on(self.lifecycle.create(rule, task));
        drop(creation);
        if !matches!(created, Ok(lifecycle::Creation::Created(_))) {
            self.lock().unmark_task(id);
        }
        Ok(match created? {
            lifecycle::Creation::Created(task) => Creation::Created(task),
            lifecycle::Creation::NextAt(next) => Creation::NextAt(next),
        })
    }

    /// Records logs that were deleted before they were shipped as a permanently failed task, so that the loss is
    /// visible.
    fn record_expired(
        &self,
        due_task: &DueTask,
        plan: &dyn BatchPlan,
        revision: i64,
    ) -> Result<LogPosition, TaskError> {
        let range = due_task.backlog.next..LogPosition::at(due_task.shard.begin());
        let (from, to) = (range.start.cursor, range.end.cursor);
        let task = self.lifecycle.new_task(plan, revision, due_task.shard.number, range, 0)?;
        let error = TaskError::Expired { from, to, delivered: "shipped" };
        tracing::error!(rule = due_task.rule.name, shard = due_task.shard.number, %error);
        let created = self.lifecycle.create_expired(&due_task.rule, task, &error);
        Ok(self.runtime.block_on(created)?.0)
    }

    /// Measures the expansion ratio on the next logs of a shard.
    fn sample_expansion_ratio(
        &self,
        plan: &dyn BatchPlan,
        shard: &Shard,
        from: LogPosition,
        reader: &mut ShardReader,
    ) -> Result<f64, TaskError> {
        let measured = self.store.backlog(shard, from.cursor, SAMPLE)?;
        let (next, end) = (from.cursor, measured.next);
        let bytes = plan.encode_sample(LogSample { store: &self.store, shard, reader, next, end })?;
        Ok(bytes as f64 / measured.bytes.max(1) as f64)
    }
}
