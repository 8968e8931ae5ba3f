//! Tasks that fail.

use rusqlite::{Connection, params};

use super::{NewTask, Place, Status, TaskId, find, insert};
use crate::error::StoreError;
use crate::store::Store;

/// What keeps failing: the stage that the last tasks of a rule ended in, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The digest of the stage.
    pub stage: String,
    /// What the newest of them failed with.
    pub message: String,
}

impl Store {
    /// A task failed; it is tried again at `next_try`, in Unix microseconds, or not before somebody says so.
    pub async fn fail_task(
        &self,
        id: TaskId,
        code: &str,
        message: &str,
        next_try: Option<u64>,
    ) -> Result<(), StoreError> {
        self.fail_task_in(id, None, code, message, next_try).await
    }

    /// The same, where it failed in a stage, whose digest is `stage`.
    pub async fn fail_task_in(
        &self,
        id: TaskId,
        stage: Option<&str>,
        code: &str,
        message: &str,
        next_try: Option<u64>,
    ) -> Result<(), StoreError> {
        let (code, message, now) = (code.to_owned(), message.to_owned(), (self.options.clock)());
        let stage = stage.map(str::to_owned);
        let job = move |connection: &Connection| {
            // What was said when the rule was deleted stays.
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
                    next_try,
                    Status::Running.as_str(),
                    stage
                ])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }

    /// The logs of a task up to `to` are no more: it fails for good. What is left of its range becomes the task `rest`.
    /// Returns whether there is any.
    pub async fn expire_task(
        &self,
        id: TaskId,
        to: Place,
        (code, message): (String, String),
        (rest_id, object): (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let task = find(connection, id)?;
            let to = to.min(task.end);
            connection
                .prepare_cached(
                    "UPDATE task SET status = ?3, finished = ?4, code = ?5, message = ?6, next_try = NULL, stage = NULL,
                     end_cursor = ?7, end_log = ?8 WHERE created = ?1 AND number = ?2",
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
            let rest = NewTask {
                id: rest_id,
                shard: task.shard,
                begin: to,
                end: task.end,
                object,
                received: task.received,
                plan: String::new(),
                revision: 0,
            };
            insert(connection, task.rule_number, task.plan, &rest, 0, now)?;
            Ok(true)
        };
        self.writer.run(false, job).await
    }

    /// What the last `count` tasks of a rule that ended failed in, if all of them failed in the same stage. Blocks on
    /// the disk.
    pub fn failing(&self, rule: i64, count: usize) -> Result<Option<Failing>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT stage, message FROM task WHERE rule = ?1 AND status <> 'running' ORDER BY id DESC LIMIT ?2",
            )?;
            let mut rows = select.query(params![rule, count as i64])?;
            let (mut found, mut failing) = (0, None);
            while let Some(row) = rows.next()? {
                let Some(stage) = row.get::<_, Option<String>>(0)? else { return Ok(None) };
                let newest = failing.get_or_insert(Failing { stage: stage.clone(), message: row.get(1)? });
                if newest.stage != stage {
                    return Ok(None);
                }
                found += 1;
            }
            Ok(failing.filter(|_| found == count))
        })
    }
}
