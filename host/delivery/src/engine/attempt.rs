//! Attempts of tasks: make the objects, publish them, record the result.

use std::sync::Arc;

use logship_logstore::{LogPosition, Shard, StoreError, Task, TaskId};

use crate::engine::error::TaskError;
use crate::engine::objects::Prepared;
use crate::engine::plan::{Plan, PlanCache};
use crate::engine::schedule::{next_attempt, next_attempt_after};
use crate::engine::step::Step;
use crate::engine::{EncodingPermit, Shipper};
use crate::executor::Executor;
use crate::objects::object::Shipped;
use crate::pipeline;
use logship_source::shard_reader::ShardReader;

impl Shipper {
    /// Retries a task. Returns true if its destination failed; `None` if it was not called.
    pub(super) fn retry(
        &self,
        id: TaskId,
        reader: &mut ShardReader,
        permit: EncodingPermit<'_>,
    ) -> Option<bool> {
        let task = match self.runtime.block_on(self.store.start_attempt(id)) {
            Ok(task) => task,
            Err(error) => {
                tracing::debug!(task = %id, %error, "can't start an attempt");
                self.lock().unmark_task(id);
                return None;
            }
        };
        match self.plan_for_retry(&task) {
            Ok((task, plan)) => self.attempt(&task, &plan, reader, permit, None),
            Err(error) => {
                self.record_result(&task, Err(error));
                None
            }
        }
    }

    /// The plan for a retry: normally the stored one. A task that failed in a stage, and has neither a manifest nor a
    /// fixed range, gets the current plan of its rule instead.
    fn plan_for_retry(&self, task: &Task) -> Result<(Task, Arc<Plan>), TaskError> {
        if task.stage.is_some() && task.manifest.is_none() && !task.is_range_fixed {
            let catalog = self.store.catalog();
            let rule = catalog.logstore(&task.project, &task.logstore)?.rule(&task.rule)?;
            let now = self.plans.current(&task.project, &task.logstore, rule, catalog.stages().revision);
            if let Ok(plan) = now
                && plan.content != self.store.plan(task.plan)?
            {
                let TaskId { created, number } = task.id;
                let key = plan.pipeline.task_key(&pipeline::Task { created, number, shard: task.shard })?;
                let replanned = self.store.replan_task(task.id, &plan.content, &key);
                return Ok((self.runtime.block_on(replanned)?, plan));
            }
        }
        Ok((task.clone(), self.stored_plan(task)?))
    }

    /// The plan that a task was created with.
    fn stored_plan(&self, task: &Task) -> Result<Arc<Plan>, TaskError> {
        let catalog = self.store.catalog();
        let rule = catalog.logstore(&task.project, &task.logstore)?.rule(&task.rule)?;
        let now = PlanCache::rule(&rule.name, &rule.target, &rule.configuration).ok();
        Ok(self.plans.restore(&self.store.plan(task.plan)?, now.as_ref())?)
    }

    /// Runs a task and records the result. `key` is the shard to free once the end of the task is known. Returns true
    /// if the destination failed; `None` if it was not called.
    pub(super) fn attempt(
        &self,
        task: &Task,
        plan: &Arc<Plan>,
        reader: &mut ShardReader,
        permit: EncodingPermit<'_>,
        key: Option<(i64, u32)>,
    ) -> Option<bool> {
        let made = match &plan.executor {
            Executor::Function(function) => self.prepare_call(task, plan, function),
            Executor::InProcess => self.prepare_objects(task, plan, reader),
        };
        if let Some(key) = key {
            // Also after a failure: the task keeps its range, and the next task can begin.
            let next = made.as_ref().map_or(task.end, |(_, end)| *end);
            self.lock().advance(key, next);
            self.wake();
        } else if let Ok((_, end)) = &made
            && *end < task.end
        {
            self.lock().rewind((task.rule_number, task.shard), *end);
            self.wake();
        }
        drop(permit);
        let filtered = match &made {
            Ok((Prepared::Objects(_, logs) | Prepared::Nothing(logs), _)) => *logs,
            _ => 0,
        };
        let is_called = !matches!(made, Ok((Prepared::Nothing(_), _)));
        let result = made.and_then(|(made, end)| match made {
            Prepared::Objects(objects, _) => self.publish_all(task, plan, end, objects),
            Prepared::Call(function, logs) => {
                self.call(task, plan, function, logs)?
                    .iter()
                    .for_each(|shipped| count_shipped(task, shipped));
                Ok(())
            }
            Prepared::Nothing(_) | Prepared::Done => Ok(()),
        });
        if result.is_ok() {
            count_filtered(task, filtered);
        }
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
            Ok(()) => self.runtime.block_on(self.store.succeed_task(task.id)),
            Err(error) if error.is_interrupted() => Ok(()),
            Err(error @ TaskError::Expired { to, .. }) => self.expire(task, error, LogPosition::at(*to)),
            Err(error) => {
                let now = self.store.clock() / 1_000_000;
                let created = task.id.created / 1_000_000_000;
                let (initial, retry_for) = (self.settings.retry_seconds, self.settings.retry_for_seconds);
                let attempts = task.failures + 1;
                let next = match error.retry_after() {
                    None => next_attempt(attempts, created, now, initial, retry_for),
                    Some(retry_after) => {
                        next_attempt_after(retry_after, attempts, created, now, initial, retry_for)
                    }
                };
                let next = next.filter(|_| error.is_retryable());
                tracing::warn!(task = %task.id, rule = task.rule, shard = task.shard, code = error.code(), %error, "task failed");
                let next = next.map(|next| next * 1_000_000);
                let (stage, code, message) = (error.stage(), error.code(), truncate(error.to_string()));
                self.runtime.block_on(self.store.fail_task_in_stage(task.id, stage, code, &message, next))
            }
        };
        if let Err(error) = recorded {
            // The task stays running. Recovery retries it.
            tracing::error!(task = %task.id, %error, "can't record the result of a task");
        }
        self.count(task, &result);
        self.update_circuit_breaker(task, &result);
        self.stop_point(Step::Settled);
        self.lock().unmark_task(task.id);
    }

    /// Fails a task whose logs before `to` were deleted, and creates one for the remaining logs.
    fn expire(&self, task: &Task, error: &TaskError, to: LogPosition) -> Result<(), StoreError> {
        tracing::error!(task = %task.id, rule = task.rule, shard = task.shard, %error);
        let next_task = self.stored_plan(task).and_then(|plan| Ok(self.new_task_id(&plan, task.shard)?));
        let Ok((id, object)) = next_task else {
            return self.runtime.block_on(self.store.fail_task(
                task.id,
                error.code(),
                &error.to_string(),
                None,
            ));
        };
        let reason = (error.code().to_owned(), error.to_string());
        if self.runtime.block_on(self.store.expire_task(task.id, to, reason, (id, object)))? {
            self.lock().retry(task.rule_number, id);
        }
        Ok(())
    }

    fn count(&self, task: &Task, result: &Result<(), TaskError>) {
        // `service/metrics.rs` describes these names.
        let status = match result {
            Ok(()) => "success",
            Err(error) if error.is_interrupted() => return,
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

fn count_filtered(task: &Task, logs: u64) {
    if logs > 0 {
        metrics::counter!("logship_left_out_logs_total", &labels(task)).increment(logs);
    }
}

pub(super) fn count_shipped(task: &Task, shipped: &Shipped) {
    let labels = labels(task);
    metrics::counter!("logship_shipped_logs_total", &labels).increment(shipped.rows);
    metrics::counter!("logship_shipped_bytes_total", &labels).increment(shipped.stored_bytes);
}

/// Truncates a message. Messages of stages may have any length.
fn truncate(message: String) -> String {
    const MAX_CHARS: usize = 2000;
    match message.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", &message[..end]),
        None => message,
    }
}
