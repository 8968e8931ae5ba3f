//! Starts, retries and ends tasks. `crate::model::Task` describes the course of a task.

pub(super) mod backlog;
mod failure;
mod filter;
mod lost;
mod manifest;
mod plan;
mod retention;
mod sessions;

use rusqlite::{Connection, OptionalExtension, Row, params};

pub(super) use self::plan::save_plan;
use super::Store;
use super::chain::{read_heads, save_heads};
use super::rule::{move_checkpoint, save_next};
use super::stage_event::revision;
use crate::error::StoreError;
use crate::model::{NewTask, ShippingRule, Status, Task, TaskId};
use crate::position::LogPosition;

const COLUMNS: &str = "SELECT task.created, task.number, project.name, logstore.name, rule.name, task.rule,
    task.plan, shard, begin_cursor, begin_log, end_cursor, end_log, object, received, status, attempts, started,
    finished, next_try, sha256, rows, raw_bytes, stored_bytes, code, message, failures, task.stage,
    objects, head_before, head_after, lost, sessions
    FROM task JOIN rule ON rule.id = task.rule JOIN logstore ON logstore.id = rule.logstore
    JOIN project ON project.id = logstore.project";

impl Store {
    /// Creates a running task. The shard's next task begins at its end.
    ///
    /// # Errors
    /// [`StoreError::StagesChanged`] if the stage aliases are at another revision than the plan,
    /// [`StoreError::NextTaskMoved`] if the shard's next task begins at another position.
    pub async fn begin_task(&self, rule: &ShippingRule, task: NewTask) -> Result<Task, StoreError> {
        let (rule, name, now) = (rule.id, rule.name.clone(), (self.options.clock)());
        let job = move |connection: &Connection| {
            let known = connection
                .prepare_cached("SELECT 1 FROM rule WHERE id = ?1 AND deleted IS NULL AND id NOT IN (SELECT id FROM resting_rule)")?
                .exists([rule])?;
            if !known {
                return Err(StoreError::NoRule(name));
            }
            if revision(connection)? != task.revision {
                return Err(StoreError::StagesChanged);
            }
            if let Some(next) = next_of(connection, rule, task.shard)?.filter(|next| *next != task.begin) {
                return Err(StoreError::NextTaskMoved(next));
            }
            let plan = save_plan(connection, rule, &task.plan, now)?;
            insert(connection, rule, plan, &task, 1, now)?;
            save_next(connection, rule, task.shard, task.end)?;
            move_checkpoint(connection, rule, task.shard)?;
            find(connection, task.id)
        };
        self.writer.run(false, job).await
    }

    /// Starts another attempt of a task.
    pub async fn start_attempt(&self, id: TaskId) -> Result<Task, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            // The task fails permanently if its rule was deleted in the meantime.
            let started = connection
                .prepare_cached(
                    "UPDATE task SET status = ?3, attempts = attempts + 1, started = ?4, finished = 0, next_try = NULL
                     WHERE created = ?1 AND number = ?2 AND (status = ?3 OR next_try IS NOT NULL)
                         AND rule NOT IN (SELECT id FROM resting_rule)",
                )?
                .execute(params![id.created, id.number, Status::Running.as_str(), now])?;
            if started == 0 { Err(StoreError::NoTask(id.to_string())) } else { find(connection, id) }
        };
        self.writer.run(false, job).await
    }

    /// Replaces the plan and the object key of a running task without a manifest.
    pub async fn replan_task(&self, id: TaskId, plan: &str, object: &str) -> Result<Task, StoreError> {
        let (plan, object, now) = (plan.to_owned(), object.to_owned(), (self.options.clock)());
        let job = move |connection: &Connection| {
            let task = find(connection, id)?;
            let plan = save_plan(connection, task.rule_number, &plan, now)?;
            let changed = connection
                .prepare_cached(
                    "UPDATE task SET plan = ?3, object = ?4, stage = NULL
                     WHERE created = ?1 AND number = ?2 AND status = ?5 AND sha256 IS NULL",
                )?
                .execute(params![id.created, id.number, plan, object, Status::Running.as_str()])?;
            if changed == 0 { Err(StoreError::NoTask(id.to_string())) } else { find(connection, id) }
        };
        self.writer.run(false, job).await
    }

    /// Marks a task as successful, because its objects are at their destination, and moves the checkpoint.
    pub async fn succeed_task(&self, id: TaskId) -> Result<(), StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let task = find(connection, id)?;
            connection
                .prepare_cached(
                    "UPDATE task SET status = ?3, finished = ?4, next_try = NULL, code = '', message = '', stage = NULL
                     WHERE created = ?1 AND number = ?2",
                )?
                .execute(params![id.created, id.number, Status::Success.as_str(), now])?;
            move_checkpoint(connection, task.rule_number, task.shard)
        };
        self.writer.run(false, job).await
    }

    /// Returns the tasks whose next attempt is due at `now` (Unix microseconds), the longest overdue first, each with
    /// the number of its rule. Blocks on disk I/O.
    pub fn due_tasks(&self, now: u64) -> Result<Vec<(i64, TaskId)>, StoreError> {
        self.select_ids(
            "SELECT rule, created, number FROM task WHERE next_try <= ?1 AND rule NOT IN (SELECT id FROM resting_rule)
             ORDER BY next_try LIMIT 1000",
            now,
        )
    }

    /// Returns the running tasks, including orphaned tasks of an earlier process. Blocks on disk I/O.
    pub fn running_tasks(&self) -> Result<Vec<(i64, TaskId)>, StoreError> {
        self.select_ids(
            "SELECT rule, created, number FROM task WHERE status <> 'success' AND status = 'running' AND created < ?1
                 AND rule NOT IN (SELECT id FROM resting_rule) ORDER BY id",
            u64::MAX >> 1,
        )
    }

    fn select_ids(&self, query: &str, parameter: u64) -> Result<Vec<(i64, TaskId)>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached(query)?;
            let ids = statement.query_map([parameter], |row| {
                Ok((row.get(0)?, TaskId { created: row.get(1)?, number: row.get(2)? }))
            })?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
    }

    /// Returns a task. Blocks on disk I/O.
    pub fn task(&self, id: TaskId) -> Result<Task, StoreError> {
        self.with_reader(|connection| find(connection, id))
    }
}

/// Returns the start of the shard's next task, if the rule has begun the shard.
pub(super) fn next_of(
    connection: &Connection,
    rule: i64,
    shard: u32,
) -> Result<Option<LogPosition>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT next_cursor, next_log FROM progress WHERE rule = ?1 AND shard = ?2")?;
    let next = statement
        .query_row(params![rule, shard], |row| Ok(LogPosition { cursor: row.get(0)?, log: row.get(1)? }));
    Ok(next.optional()?)
}

pub(super) fn insert(
    connection: &Connection,
    rule: i64,
    plan: i64,
    task: &NewTask,
    attempts: u32,
    now: u64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO task (rule, plan, shard, created, number, begin_cursor, begin_log, end_cursor, end_log,
                 object, received, status, attempts, failures, started, finished, code, message,
                 sealed, generation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?14, 0, ?13, 0, '', '',
                 ?15, (SELECT max(number) FROM generation))",
        )?
        .execute(params![
            rule,
            plan,
            task.shard,
            task.id.created,
            task.id.number,
            task.begin.cursor,
            task.begin.log,
            task.end.cursor,
            task.end.log,
            task.object,
            task.received,
            Status::Running.as_str(),
            now,
            attempts,
            task.is_sealed
        ])?;
    save_heads(connection, (task.id.created, task.id.number), rule, task.shard, (task.begin, task.end))
}

/// Returns true if a backup has the task.
fn is_sealed(connection: &Connection, id: TaskId) -> Result<bool, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT sealed FROM task WHERE created = ?1 AND number = ?2")?;
    Ok(select.query_row([id.created, id.number], |row| row.get(0)).optional()?.unwrap_or(false))
}

fn find(connection: &Connection, id: TaskId) -> Result<Task, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("{COLUMNS} WHERE task.created = ?1 AND task.number = ?2"))?;
    let found = statement.query_row([id.created, id.number], read).optional()?;
    found.ok_or_else(|| StoreError::NoTask(id.to_string()))
}

fn read(row: &Row<'_>) -> Result<Task, rusqlite::Error> {
    Ok(Task {
        id: TaskId { created: row.get(0)?, number: row.get(1)? },
        project: row.get(2)?,
        logstore: row.get(3)?,
        rule: row.get(4)?,
        rule_number: row.get(5)?,
        plan: row.get(6)?,
        shard: row.get(7)?,
        begin: LogPosition { cursor: row.get(8)?, log: row.get(9)? },
        end: LogPosition { cursor: row.get(10)?, log: row.get(11)? },
        is_range_fixed: row.get::<_, Option<u64>>(20)?.is_some(),
        object: row.get(12)?,
        received: row.get(13)?,
        // The table contains no other values.
        status: row.get::<_, String>(14)?.parse().unwrap_or(Status::Failed),
        attempts: row.get(15)?,
        started: row.get(16)?,
        finished: row.get(17)?,
        next_attempt: row.get(18)?,
        manifest: manifest::read(row, [19, 20, 21, 22, 27])?,
        lost: lost::read(row, 30)?,
        code: row.get(23)?,
        message: row.get(24)?,
        failures: row.get(25)?,
        stage: row.get(26)?,
        heads: read_heads(row, 28, 29),
        sessions: row.get(31)?,
    })
}
