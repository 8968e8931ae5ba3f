//! Failed tasks.

use rusqlite::{Connection, params};

use super::{find, insert, is_sealed};
use crate::error::StoreError;
use crate::model::{FailingStage, NewTask, Status, TaskId};
use crate::position::LogPosition;
use crate::store::Store;

impl Store {
    /// Marks a task as failed. It is retried at `next_attempt`, in Unix microseconds, or only on request if that is
    /// `None`.
    pub async fn fail_task(
        &self,
        id: TaskId,
        code: &str,
        message: &str,
        next_attempt: Option<u64>,
    ) -> Result<(), StoreError> {
        self.fail_task_in_stage(id, None, code, message, next_attempt).await
    }

    /// Marks a task as failed in a stage, given by its digest.
    pub async fn fail_task_in_stage(
        &self,
        id: TaskId,
        stage: Option<&str>,
        code: &str,
        message: &str,
        next_attempt: Option<u64>,
    ) -> Result<(), StoreError> {
        let (code, message, now) = (code.to_owned(), message.to_owned(), (self.options.clock)());
        let stage = stage.map(str::to_owned);
        let job = move |connection: &Connection| {
            // Tasks of a deleted rule keep their error.
            connection
                .prepare_cached(
                    "UPDATE task SET status = ?3, finished = ?4, code = ?5, message = ?6, next_try = ?7,
                     failures = failures + 1, stage = ?9
                     WHERE created = ?1 AND number = ?2 AND status = ?8",
                )?
                .execute(params![
                    id.created,
                    id.number,
                    Status::Failed.as_str(),
                    now,
                    code,
                    message,
                    next_attempt,
                    Status::Running.as_str(),
                    stage
                ])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }

    /// Fails a task permanently, because its logs up to `to` were deleted. The remainder of its range becomes a new
    /// task. Returns true if there is a remainder.
    pub async fn expire_task(
        &self,
        id: TaskId,
        to: LogPosition,
        (code, message): (String, String),
        (remainder_id, object): (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let task = find(connection, id)?;
            let to = to.min(task.end);
            connection
                .prepare_cached(
                    "UPDATE task SET status = ?3, finished = ?4, code = ?5, message = ?6, next_try = NULL, stage = NULL,
                     end_cursor = ?7, end_log = ?8, head_before = NULL, head_after = NULL WHERE created = ?1 AND number = ?2",
                )?
                .execute(params![
                    id.created,
                    id.number,
                    Status::Failed.as_str(),
                    now,
                    code,
                    message,
                    to.cursor,
                    to.log
                ])?;
            if to == task.end {
                return Ok(false);
            }
            let remainder = NewTask {
                id: remainder_id,
                shard: task.shard,
                begin: to,
                end: task.end,
                object,
                received: task.received,
                plan: String::new(),
                revision: 0,
                is_sealed: is_sealed(connection, id)?,
            };
            insert(connection, task.rule_number, task.plan, &remainder, 0, now)?;
            Ok(true)
        };
        self.writer.run(false, job).await
    }

    /// Returns the stage in which the last `count` finished tasks of a rule all failed, if there is one. Blocks on disk
    /// I/O.
    pub fn failing_stage(&self, rule: i64, count: usize) -> Result<Option<FailingStage>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT stage, message FROM task WHERE rule = ?1 AND status <> 'running' ORDER BY id DESC LIMIT ?2",
            )?;
            let mut rows = select.query(params![rule, count as i64])?;
            let (mut found, mut failing) = (0, None);
            while let Some(row) = rows.next()? {
                let Some(stage) = row.get::<_, Option<String>>(0)? else { return Ok(None) };
                let latest = failing.get_or_insert(FailingStage { stage: stage.clone(), message: row.get(1)? });
                if latest.stage != stage {
                    return Ok(None);
                }
                found += 1;
            }
            Ok(failing.filter(|_| found == count))
        })
    }
}
