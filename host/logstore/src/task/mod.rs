//! Shipping tasks: a range of a shard each, that becomes one object, or several where its rule splits it.
//!
//! A task is on disk before anything of its object is. Its range may still shrink, until it is **sealed**: then all
//! of the object's bytes are known, and what they hash to. Only then the object gets its name, and when it has it
//! the task succeeds and the checkpoint moves, in one transaction. Where somebody else makes the object, and may bring
//! it to its place before anything is heard of it, the task is **cut** before: its range is what it will be.
//!
//! # Layout
//! - This file: what a task is, how it begins and succeeds. `id`, `place`: what it is called, and where it begins and ends.
//! - `seal`: what is known of its objects. `failure`: why it has none. `plan`: what it is made by.
//! - `filter`: which are listed and tried again; `retention`: which are forgotten. `measure`: what the next can be made of.

mod failure;
mod filter;
mod id;
mod measure;
mod place;
mod plan;
mod retention;
mod seal;

use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, params};

pub use failure::Failing;
pub use filter::{TaskCounts, TaskFilter};
pub use id::TaskId;
pub use measure::Measured;
pub use place::Place;
pub use seal::{Seal, SealedObject};

use self::plan::save_plan;
use crate::catalog::Logstore;
use crate::error::StoreError;
use crate::rule::{ShippingRule, move_checkpoint, save_next};
use crate::stage;
use crate::store::Store;

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being worked on, or waits for its turn.
    Running,
    /// Its objects are where they have to be.
    Success,
    /// It is not; it may be tried again.
    Failed,
}

impl Status {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "fail",
        }
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "running" => Ok(Self::Running),
            "success" => Ok(Self::Success),
            "fail" => Ok(Self::Failed),
            _ => Err(()),
        }
    }
}

/// The code of tasks whose rule is gone.
pub const CONFIG_NOT_EXIST: &str = "ConfigNotExist";

/// A task to be made.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// The number of the shard.
    pub shard: u32,
    /// Its first log: where the last task of the shard ended.
    pub begin: Place,
    /// Behind its last log, at most.
    pub end: Place,
    /// The key of its object. Empty where it is known only when the logs are read.
    pub object: String,
    /// When its newest log was received, in Unix seconds.
    pub received: u64,
    /// What it is made by: the rule and the digests of its stages, as JSON.
    pub plan: String,
    /// The [revision](crate::StageNames::revision) of the names of stages that this plan was made at.
    pub revision: i64,
}

/// A task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The name of its rule.
    pub rule: String,
    /// The number of its rule.
    pub rule_number: i64,
    /// The number of its plan.
    pub plan: i64,
    /// The number of the shard.
    pub shard: u32,
    /// Its first log.
    pub begin: Place,
    /// Behind its last log; at most, as long as it is neither sealed nor cut.
    pub end: Place,
    /// Whether its end is known.
    pub is_cut: bool,
    /// The key of its object, or of the first. Empty as long as it is not known.
    pub object: String,
    /// When its newest log was received, in Unix seconds.
    pub received: u64,
    /// What became of it.
    pub status: Status,
    /// How often it was tried.
    pub attempts: u32,
    /// How often that failed: it may also have been cut off.
    pub failures: u32,
    /// When it was tried last, in Unix microseconds.
    pub started: u64,
    /// When that ended, in Unix microseconds; 0 while it runs.
    pub finished: u64,
    /// When it will be tried again, in Unix microseconds.
    pub next_try: Option<u64>,
    /// What is known of its objects.
    pub seal: Option<Seal>,
    /// Why it failed, in a word.
    pub code: String,
    /// Why it failed.
    pub message: String,
    /// The digest of the stage that it failed in, at the last time.
    pub stage: Option<String>,
}

impl Task {
    /// What is known of each of its objects. None as long as it is not sealed, and where it has none.
    pub fn objects(&self) -> Vec<SealedObject> {
        let Some(seal) = self.seal.as_ref().filter(|seal| seal.has_object()) else { return vec![] };
        if !seal.objects.is_empty() {
            return seal.objects.clone();
        }
        let Seal { rows, raw_bytes, stored_bytes, ref sha256, .. } = *seal;
        let (object, sha256) = (self.object.clone(), sha256.clone());
        vec![SealedObject { object, rows, raw_bytes, stored_bytes, sha256 }]
    }
}

const COLUMNS: &str = "SELECT task.created, task.number, project.name, logstore.name, rule.name, task.rule,
    task.plan, shard, begin_cursor, begin_log, end_cursor, end_log, object, received, status, attempts, started,
    finished, next_try, sha256, rows, raw_bytes, stored_bytes, code, message, failures, task.stage,
    objects
    FROM task JOIN rule ON rule.id = task.rule JOIN logstore ON logstore.id = rule.logstore
    JOIN project ON project.id = logstore.project";

impl Store {
    /// Makes a task that runs, and lets the next one of the shard begin behind it. What names of stages stand for by
    /// then is what its plan was made by, or it is not made.
    pub async fn begin_task(&self, rule: &ShippingRule, task: NewTask) -> Result<Task, StoreError> {
        let (rule, name, now) = (rule.id, rule.name.clone(), (self.options.clock)());
        let job = move |connection: &Connection| {
            let known = connection
                .prepare_cached("SELECT 1 FROM rule WHERE id = ?1 AND deleted IS NULL")?
                .exists([rule])?;
            if !known {
                return Err(StoreError::NoRule(name));
            }
            if stage::revision(connection)? != task.revision {
                return Err(StoreError::StagesChanged);
            }
            if let Some(next) = next_of(connection, rule, task.shard)?.filter(|next| *next != task.begin) {
                return Err(StoreError::Overtaken(next));
            }
            let plan = save_plan(connection, rule, &task.plan, now)?;
            insert(connection, rule, plan, &task, 1, now)?;
            save_next(connection, rule, task.shard, task.end)?;
            move_checkpoint(connection, rule, task.shard)?;
            find(connection, task.id)
        };
        self.writer.run(false, job).await
    }

    /// Begins a task anew.
    pub async fn resume_task(&self, id: TaskId) -> Result<Task, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            // One whose rule was deleted meanwhile has failed for good.
            let begun = connection
                .prepare_cached(
                    "UPDATE task SET status = ?3, attempts = attempts + 1, started = ?4, finished = 0, next_try = NULL
                     WHERE created = ?1 AND number = ?2 AND (status = ?3 OR next_try IS NOT NULL)",
                )?
                .execute(params![id.created, id.number, Status::Running.as_str(), now])?;
            if begun == 0 { Err(StoreError::NoTask(id.to_string())) } else { find(connection, id) }
        };
        self.writer.run(false, job).await
    }

    /// Makes a task by another plan, with another key of its object: one that runs, and of which nothing is sealed.
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

    /// The objects of a task are where they have to be: the checkpoint moves.
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

    /// The tasks that are to be tried at `now` (Unix microseconds) or before, those that wait longest first, each with the
    /// number of its rule.
    /// Blocks on the disk.
    pub fn due_tasks(&self, now: u64) -> Result<Vec<(i64, TaskId)>, StoreError> {
        self.select_ids(
            "SELECT rule, created, number FROM task WHERE next_try <= ?1 ORDER BY next_try LIMIT 1000",
            now,
        )
    }

    /// The tasks that run, or whose process ended while they did. Blocks on the disk.
    pub fn running_tasks(&self) -> Result<Vec<(i64, TaskId)>, StoreError> {
        self.select_ids(
            "SELECT rule, created, number FROM task WHERE status <> 'success' AND status = 'running' AND created < ?1 ORDER BY id",
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

    /// A task. Blocks on the disk.
    pub fn task(&self, id: TaskId) -> Result<Task, StoreError> {
        self.with_reader(|connection| find(connection, id))
    }

    /// The present in Unix microseconds.
    pub fn clock(&self) -> u64 {
        (self.options.clock)()
    }
}

impl Logstore {
    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Result<&ShippingRule, StoreError> {
        self.rules.get(name).ok_or_else(|| StoreError::NoRule(name.into()))
    }
}

/// Where the next task of a shard begins, if there was one before.
fn next_of(connection: &Connection, rule: i64, shard: u32) -> Result<Option<Place>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT next_cursor, next_log FROM progress WHERE rule = ?1 AND shard = ?2")?;
    let next =
        statement.query_row(params![rule, shard], |row| Ok(Place { cursor: row.get(0)?, log: row.get(1)? }));
    Ok(next.optional()?)
}

fn insert(
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
                 object, received, status, attempts, failures, started, finished, code, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?14, 0, ?13, 0, '', '')",
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
            attempts
        ])?;
    Ok(())
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
        begin: Place { cursor: row.get(8)?, log: row.get(9)? },
        end: Place { cursor: row.get(10)?, log: row.get(11)? },
        is_cut: row.get::<_, Option<u64>>(20)?.is_some(),
        object: row.get(12)?,
        received: row.get(13)?,
        // The table has no others.
        status: row.get::<_, String>(14)?.parse().unwrap_or(Status::Failed),
        attempts: row.get(15)?,
        started: row.get(16)?,
        finished: row.get(17)?,
        next_try: row.get(18)?,
        seal: seal::read(row, [19, 20, 21, 22, 27])?,
        code: row.get(23)?,
        message: row.get(24)?,
        failures: row.get(25)?,
        stage: row.get(26)?,
    })
}
