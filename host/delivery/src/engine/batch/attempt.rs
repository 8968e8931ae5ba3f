//! Attempts of tasks: make the output, deliver it, record the result.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use logship_logstore::{Heads, LogPosition, LostValues, ObjectManifest, Shard, StoreError, Task, TaskId};
use logship_source::shard_reader::ShardReader;

use crate::engine::batch::EncodingPermit;
use crate::engine::batch::schedule::SAMPLE;
use crate::engine::error::TaskError;
use crate::engine::metrics::{count_attempt, count_filtered, count_lost, count_shipped};
use crate::engine::panics;
use crate::engine::work::{BatchPlan, Prepared};
use crate::engine::{DeliveryEngine, Step};

/// Interval of checks for a stop of the engine, while a task waits.
const STOP_POLL: Duration = Duration::from_millis(200);

/// One attempt of a task: the engine's side, for its kind of work.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub(super) engine: &'a DeliveryEngine,
    /// The task.
    pub task: &'a Task,
    plan: &'a dyn BatchPlan,
}

impl Attempt<'_> {
    /// Saves the manifest of the task, and its end.
    pub(crate) fn save_manifest(&self, end: LogPosition, manifest: ObjectManifest) -> Result<(), TaskError> {
        let (engine, task) = (self.engine, self.task);
        if let Some(before) = task.manifest.as_ref().filter(|before| **before != manifest) {
            tracing::warn!(task = %task.id, sha256 = manifest.sha256, before = before.sha256, "a stage made different bytes than before; none were published");
        }
        let remainder = engine.lifecycle.remainder_id(self.plan, task)?;
        let next_id = remainder.0;
        let saved = engine.lifecycle.save_manifest(task.id, end, manifest, remainder);
        if engine.runtime.block_on(saved)? {
            engine.lock().retry(task.rule_number, next_id);
        }
        Ok(())
    }

    /// Saves the values of the task's logs that are not in its objects.
    pub(crate) fn save_lost(&self, lost: LostValues) -> Result<(), TaskError> {
        let (engine, task) = (self.engine, self.task);
        // Most tasks lose nothing, and need no write.
        if lost == task.lost.clone().unwrap_or_default() {
            return Ok(());
        }
        if !lost.is_empty() {
            tracing::warn!(task = %task.id, rule = task.rule, values = lost.total, "values of logs are not in the objects: {lost}");
            count_lost(task, lost.total);
        }
        Ok(engine.runtime.block_on(engine.store.save_lost(task.id, lost))?)
    }

    /// Saves the upload sessions of the task.
    pub(crate) fn save_sessions(&self, sessions: String) -> Result<(), TaskError> {
        Ok(self.engine.runtime.block_on(self.engine.store.save_sessions(self.task.id, sessions))?)
    }

    /// Waits for a request of the task. Gives it up when the engine stops.
    pub(crate) fn wait<T>(&self, request: impl Future<Output = T>) -> Result<T, TaskError> {
        self.engine.runtime.block_on(async {
            let mut request = pin!(request);
            loop {
                match tokio::time::timeout(STOP_POLL, &mut request).await {
                    Ok(done) => return Ok(done),
                    Err(_) if self.is_stopping() => return Err(TaskError::Stopping),
                    Err(_) => {}
                }
            }
        })
    }

    /// Fixes the end of the task before its output is made elsewhere.
    pub(crate) fn fix_range(&self, end: LogPosition, rows: u64) -> Result<(), TaskError> {
        let (engine, task) = (self.engine, self.task);
        let remainder = engine.lifecycle.remainder_id(self.plan, task)?;
        let next_id = remainder.0;
        if engine.runtime.block_on(engine.store.fix_range(task.id, end, rows, remainder))? {
            engine.lock().retry(task.rule_number, next_id);
        }
        Ok(())
    }

    /// Releases the fixed end of the task. The caller must be sure that no output was made.
    pub(crate) fn release_range(&self) -> Result<(), TaskError> {
        Ok(self.engine.runtime.block_on(self.engine.store.release_range(self.task.id))?)
    }

    /// Expansion ratio of the rule: output bytes / log bytes; 1 if unknown.
    pub(crate) fn expansion_ratio(&self) -> f64 {
        self.engine.lock().expansion_ratio(self.task.rule_number)
    }

    /// Records the expansion ratio of a large enough output.
    pub(crate) fn record_expansion(&self, output: u64, read: u64) {
        if read > SAMPLE / 4 {
            let key = (self.task.rule_number, self.task.shard);
            self.engine.lock().set_expansion_ratio(key, output as f64 / read as f64);
        }
    }

    /// Counts delivered rows and bytes.
    pub(crate) fn count_shipped(&self, rows: u64, bytes: u64) {
        count_shipped(self.task, rows, bytes);
    }

    /// Counts logs that the transformers filtered, for output that is made when it is delivered.
    pub(crate) fn count_filtered(&self, logs: u64) {
        count_filtered(self.task, logs);
    }

    /// The shard of the task.
    pub(crate) fn shard(&self) -> Result<Arc<Shard>, TaskError> {
        let catalog = self.engine.store.catalog();
        Ok(Arc::clone(catalog.logstore(&self.task.project, &self.task.logstore)?.shard(self.task.shard)?))
    }

    /// The store with the logs of the task.
    pub(crate) fn store(&self) -> &logship_logstore::Store {
        &self.engine.store
    }

    /// The heads of the shard's chain before and after the final range of the task.
    pub(crate) fn heads(&self) -> Result<Option<Heads>, TaskError> {
        Ok(self.engine.store.task(self.task.id)?.heads)
    }

    /// The error of a task whose logs from `from` to `to` were deleted.
    pub(crate) fn expired(&self, from: u64, to: u64) -> TaskError {
        TaskError::Expired { from, to, delivered: "shipped" }
    }

    /// True if the engine is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.engine.is_stopping()
    }
}

impl DeliveryEngine {
    /// Retries a task. Returns true if its destination failed; `None` if it was not called.
    pub(super) fn retry(
        &self,
        id: TaskId,
        reader: &mut ShardReader,
        permit: EncodingPermit<'_>,
    ) -> Option<bool> {
        let task = match self.runtime.block_on(self.lifecycle.start_attempt(id)) {
            Ok(task) => task,
            Err(error) => {
                tracing::debug!(task = %id, %error, "can't start an attempt");
                self.lock().unmark_task(id);
                return None;
            }
        };
        match panics::catch(|| self.plan_for_retry(&task)) {
            Ok((task, plan)) => self.attempt(&task, &plan, reader, permit, None),
            Err(error) => {
                self.record_result(&task, Err(error));
                None
            }
        }
    }

    /// The plan for a retry: normally the stored one. A task that failed in a stage, and has neither a manifest nor a
    /// fixed range, gets the current plan of its rule instead.
    fn plan_for_retry(&self, task: &Task) -> Result<(Task, Arc<dyn BatchPlan>), TaskError> {
        if task.stage.is_some() && task.manifest.is_none() && !task.is_range_fixed {
            let catalog = self.store.catalog();
            let rule = catalog.logstore(&task.project, &task.logstore)?.rule(&task.rule)?;
            let now = self.current_plan(&task.project, &task.logstore, rule, catalog.stages().revision);
            if let Ok(plan) = now
                && plan.content() != self.store.plan(task.plan)?
            {
                let name = plan.output_name(task.id, task.shard)?;
                let replanned = self.store.replan_task(task.id, plan.content(), &name);
                return Ok((self.runtime.block_on(replanned)?, plan));
            }
        }
        Ok((task.clone(), self.stored_plan(task)?))
    }

    /// The plan that a task was created with.
    fn stored_plan(&self, task: &Task) -> Result<Arc<dyn BatchPlan>, TaskError> {
        let catalog = self.store.catalog();
        let rule = catalog.logstore(&task.project, &task.logstore)?.rule(&task.rule)?;
        Ok(self.restore_plan(&self.store.plan(task.plan)?, Some(rule))?)
    }

    /// Runs a task and records the result. `key` is the shard to free once the end of the task is known. Returns true
    /// if the destination failed; `None` if it was not called.
    pub(super) fn attempt(
        &self,
        task: &Task,
        plan: &Arc<dyn BatchPlan>,
        reader: &mut ShardReader,
        permit: EncodingPermit<'_>,
        key: Option<(i64, u32)>,
    ) -> Option<bool> {
        let attempt = Attempt { engine: self, task, plan: &**plan };
        Step::Begun.reached();
        let made = panics::catch(|| plan.prepare(&attempt, reader));
        if let Some(key) = key {
            // Also after a failure: the task keeps its range, and the next task can begin.
            let next = made.as_ref().map_or(task.end, |made| made.end);
            self.lock().advance(key, next);
            self.wake_pool();
        } else if let Ok(made) = &made
            && made.end < task.end
        {
            self.lock().rewind((task.rule_number, task.shard), made.end);
            self.wake_pool();
        }
        drop(permit);
        let is_called = made.as_ref().map_or(true, |made| made.is_called);
        let result = made.and_then(|Prepared { filtered, deliver, .. }| {
            deliver.map_or(Ok(()), |deliver| panics::catch(|| deliver(&attempt)))?;
            count_filtered(task, filtered);
            Ok(())
        });
        let failed = match &result {
            Ok(()) => is_called.then_some(false),
            Err(error) => error.destination_failed(),
        };
        self.record_result(task, result);
        failed
    }

    /// Records the result of a task.
    fn record_result(&self, task: &Task, result: Result<(), TaskError>) {
        let recorded = match &result {
            Ok(()) => self.runtime.block_on(self.lifecycle.succeed(task.id)),
            Err(error) if error.is_interrupted() => Ok(()),
            Err(error) => match error.end_of_lost_logs(task.begin) {
                Some(to) => self.expire(task, error, to),
                None => self.runtime.block_on(self.lifecycle.fail(task, error)),
            },
        };
        if let Err(error) = recorded {
            // The task stays running. Recovery retries it.
            tracing::error!(task = %task.id, %error, "can't record the result of a task");
        }
        count_attempt(task, &result);
        self.update_circuit_breaker(task, &result);
        Step::Settled.reached();
        self.lock().unmark_task(task.id);
    }

    /// Fails a task whose logs before `to` were deleted or are damaged, and creates one for the remaining logs.
    fn expire(&self, task: &Task, error: &TaskError, to: LogPosition) -> Result<(), StoreError> {
        tracing::error!(task = %task.id, rule = task.rule, shard = task.shard, %error);
        let remainder =
            self.stored_plan(task).and_then(|plan| Ok(self.lifecycle.new_id(&*plan, task.shard)?));
        let Ok(remainder) = remainder else {
            let message = error.to_string();
            let failed = self.store.fail_task(task.id, error.code(), &message, None);
            return self.runtime.block_on(failed);
        };
        let next_id = remainder.0;
        if self.runtime.block_on(self.lifecycle.expire(task.id, to, error, remainder))? {
            self.lock().retry(task.rule_number, next_id);
        }
        Ok(())
    }
}
