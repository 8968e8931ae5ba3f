//! The life of a task on disk: created, attempted, its manifest saved, and succeeded or failed.
//!
//! Each step is on disk before its effect is visible at the destination.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{LogPosition, NewTask, ObjectManifest, ShippingRule, Store, StoreError, Task, TaskId};
use logship_runtime::stage::StageError;

use crate::engine::error::TaskError;
use crate::engine::plan::Plan;
use crate::engine::retry::RetryPolicy;
use crate::engine::step::Step;

/// Creates tasks and records their results.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    store: Arc<Store>,
    retry: RetryPolicy,
    /// Creation time of the last task, in Unix nanoseconds.
    last_id: AtomicU64,
}

/// The result of creating a task.
pub(super) enum Creation {
    /// The task is on disk.
    Created(Box<Task>),
    /// The shard's next task begins at another position.
    NextAt(LogPosition),
}

/// The numbers in the second half of a task's id.
const NUMBERS: Range<u64> = 1_000_000..10_000_000;

/// Returns a random number for the second half of a task's id.
pub(crate) fn new_number() -> u64 {
    fastrand::u64(NUMBERS)
}

impl Lifecycle {
    pub(super) fn new(store: Arc<Store>, retry: RetryPolicy) -> Self {
        Self { store, retry, last_id: AtomicU64::new(0) }
    }

    /// Returns a task of a plan. It is not on disk yet.
    pub(super) fn new_task<P: Plan + ?Sized>(
        &self,
        plan: &P,
        revision: i64,
        shard: u32,
        range: Range<LogPosition>,
        received: u64,
    ) -> Result<NewTask, StageError> {
        let (id, object) = self.new_id(plan, shard)?;
        let (begin, end, plan) = (range.start, range.end, plan.content().to_owned());
        Ok(NewTask { id, shard, begin, end, object, received, plan, revision, is_sealed: false })
    }

    /// Returns a new task id and the name of its output.
    pub(super) fn new_id<P: Plan + ?Sized>(
        &self,
        plan: &P,
        shard: u32,
    ) -> Result<(TaskId, String), StageError> {
        // Strictly increasing, even if the clock stands still or is set back.
        let now = self.store.clock() * 1000;
        let last = self.last_id.fetch_max(now, Ordering::Relaxed);
        let created = if last < now { now } else { self.last_id.fetch_add(1, Ordering::Relaxed) + 1 };
        let id = TaskId { created, number: new_number() };
        Ok((id, plan.output_name(id, shard)?))
    }

    /// Returns the id of a task with the logs behind another one, and the name of its output. It follows from the id of
    /// that one, so that a store and its restored backup make the same object.
    pub(super) fn remainder_id<P: Plan + ?Sized>(
        &self,
        plan: &P,
        task: &Task,
    ) -> Result<(TaskId, String), StageError> {
        let TaskId { created, number } = task.id;
        let next = NUMBERS.start + (number + 1).saturating_sub(NUMBERS.start) % (NUMBERS.end - NUMBERS.start);
        let id = TaskId { created, number: next };
        match self.store.task(id) {
            Err(StoreError::NoTask(_)) => Ok((id, plan.output_name(id, task.shard)?)),
            // The task had another remainder before.
            _ => self.new_id(plan, task.shard),
        }
    }

    /// Saves a new task.
    pub(super) async fn create(&self, rule: &ShippingRule, task: NewTask) -> Result<Creation, StoreError> {
        match self.store.begin_task(rule, task).await {
            Ok(task) => Ok(Creation::Created(Box::new(task))),
            // A retried task covered less than its range.
            Err(StoreError::NextTaskMoved(next)) => Ok(Creation::NextAt(next)),
            Err(error) => Err(error),
        }
    }

    /// Saves a task whose logs were deleted as permanently failed, so that the loss is visible. Returns the start of the
    /// next task, and true if the task was saved.
    pub(super) async fn create_expired(
        &self,
        rule: &ShippingRule,
        task: NewTask,
        error: &TaskError,
    ) -> Result<(LogPosition, bool), StoreError> {
        let (id, end) = (task.id, task.end);
        match self.create(rule, task).await? {
            Creation::Created(_) => {
                self.store.fail_task(id, error.code(), &error.to_string(), None).await?;
                Ok((end, true))
            }
            Creation::NextAt(next) => Ok((next, false)),
        }
    }

    /// Starts another attempt of a task.
    pub(super) async fn start_attempt(&self, id: TaskId) -> Result<Task, StoreError> {
        self.store.start_attempt(id).await
    }

    /// Saves the manifest of a task, and its end. Logs behind the end become the next task, or a new one with the id and
    /// name in `remainder`. Returns true if they became a new one.
    pub(super) async fn save_manifest(
        &self,
        id: TaskId,
        end: LogPosition,
        manifest: ObjectManifest,
        remainder: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let has_remainder = self.store.save_manifest(id, end, manifest, remainder).await?;
        Step::ManifestSaved.reached();
        Ok(has_remainder)
    }

    /// Marks a task as successful and moves the checkpoint.
    pub(super) async fn succeed(&self, id: TaskId) -> Result<(), StoreError> {
        self.store.succeed_task(id).await
    }

    /// Marks a task as failed in an attempt, and schedules the next attempt if one may succeed.
    pub(super) async fn fail(&self, task: &Task, error: &TaskError) -> Result<(), StoreError> {
        let now = self.store.clock() / 1_000_000;
        let created = task.id.created / 1_000_000_000;
        let next = self.retry.next(error.retry_after(), task.failures + 1, created, now);
        let next = next.filter(|_| error.is_retryable());
        tracing::warn!(task = %task.id, rule = task.rule, shard = task.shard, code = error.code(), %error, "task failed");
        let next = next.map(|next| next * 1_000_000);
        let message = truncate(error.to_string());
        self.store.fail_task_in_stage(task.id, error.stage(), error.code(), &message, next).await
    }

    /// Marks a task as failed while its attempt goes on, so that the failure is visible. If the process ends, the next
    /// one retries the task after `delay` seconds.
    pub(super) async fn mark_stuck(
        &self,
        id: TaskId,
        stage: Option<&str>,
        message: &str,
        delay: u64,
    ) -> Result<(), StoreError> {
        let next = self.store.clock() + delay * 1_000_000;
        self.store.fail_task_in_stage(id, stage, "InternalServerError", message, Some(next)).await
    }

    /// Saves the manifest of a task that was delivered completely, and marks it as successful.
    pub(super) async fn finish(
        &self,
        id: TaskId,
        end: LogPosition,
        manifest: &ObjectManifest,
    ) -> Result<(), StoreError> {
        let finish = || async {
            // The task covers its whole range, so there is no remainder.
            self.save_manifest(id, end, manifest.clone(), (id, String::new())).await?;
            self.succeed(id).await
        };
        match finish().await {
            // The task may have been marked as stuck, perhaps just now.
            Err(StoreError::NoTask(_)) => {
                self.start_attempt(id).await?;
                finish().await
            }
            done => done,
        }
    }

    /// Fails a task whose logs before `to` were deleted, and creates one for the remaining logs with the id and name in
    /// `remainder`. Returns true if there are any.
    pub(super) async fn expire(
        &self,
        id: TaskId,
        to: LogPosition,
        error: &TaskError,
        remainder: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let reason = (error.code().to_owned(), error.to_string());
        self.store.expire_task(id, to, reason, remainder).await
    }
}

/// Truncates a message. Messages of stages may have any length.
fn truncate(message: String) -> String {
    const MAX_CHARS: usize = 2000;
    match message.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", &message[..end]),
        None => message,
    }
}
