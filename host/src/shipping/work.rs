//! One task: from the logs of a shard to its objects at their destination, and what came of it.

use std::sync::Arc;

use logship_logstore::{Place, Shard, StoreError, Task, TaskId};

use super::error::TaskError;
use super::objects::Begun;
use super::plan::{Plan, Plans};
use super::schedule::{next_try, next_try_after};
use super::step::Step;
use super::{Shipper, Slot};
use crate::destination::Destination;
use crate::object::Shipped;
use crate::pipeline;
use crate::source::ShardReader;

impl Shipper {
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
                let key = plan.pipeline.task_key(&pipeline::Task { created, number, shard: task.shard })?;
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
    pub(super) fn attempt(
        &self,
        task: &Task,
        plan: &Arc<Plan>,
        reader: &mut ShardReader,
        slot: Slot<'_>,
        key: Option<(i64, u32)>,
    ) -> Option<bool> {
        let made = match &plan.destination {
            Destination::Function(function) => self.make_call(task, plan, function),
            _ => self.make_objects(task, plan, reader),
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
            Ok((Begun::Objects(_, logs) | Begun::Nothing(logs), _)) => *logs,
            _ => 0,
        };
        let is_asked = !matches!(made, Ok((Begun::Nothing(_), _)));
        let result = made.and_then(|(made, end)| match made {
            Begun::Objects(objects, _) => self.publish_all(task, plan, end, objects),
            Begun::Call(logs) => {
                self.call(task, plan, logs)?.iter().for_each(|shipped| count_shipped(task, shipped));
                Ok(())
            }
            Begun::Nothing(_) | Begun::Done => Ok(()),
        });
        if result.is_ok() {
            count_left_out(task, left_out);
        }
        let failed = match &result {
            Ok(()) => is_asked.then_some(false),
            Err(error) => error.destination_failed(),
        };
        self.settle(task, result);
        failed
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

pub(super) fn count_shipped(task: &Task, shipped: &Shipped) {
    let labels = labels(task);
    metrics::counter!("logship_shipped_logs_total", &labels).increment(shipped.rows);
    metrics::counter!("logship_shipped_bytes_total", &labels).increment(shipped.stored_bytes);
}

/// A message, as long as it is read: what a stage says may be of any length.
fn cut(message: String) -> String {
    const LONGEST: usize = 2000;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &message[..end]),
        None => message,
    }
}
