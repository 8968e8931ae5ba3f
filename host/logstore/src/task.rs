//! Shipping tasks: a range of a shard each, that becomes one object.
//!
//! A task is on disk before anything of its object is. Its range may still shrink, until it is **sealed**: then all
//! of the object's bytes are known, and what they hash to. Only then the object gets its name, and when it has it
//! the task succeeds and the checkpoint moves, in one transaction. Where somebody else makes the object, and may bring
//! it to its place before anything is heard of it, the task is **cut** before: its range is what it will be.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::catalog::{Logstore, Shard};
use crate::error::StoreError;
use crate::rule::{ShippingRule, move_checkpoint, save_next};
use crate::stage;
use crate::store::Store;

/// A place between two logs of a shard: before log number `log` of the log group at `cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The position of the log group.
    pub cursor: u64,
    /// Logs of it that are before the place.
    pub log: u32,
}

impl Place {
    /// Before the log group at `cursor`.
    pub fn at(cursor: u64) -> Self {
        Self { cursor, log: 0 }
    }

    /// The position behind the last log group that has a log before the place.
    pub fn behind(self) -> u64 {
        self.cursor + u64::from(self.log > 0)
    }
}

/// `CURSOR`, or `CURSOR+LOGS` within a log group.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            0 => write!(formatter, "{}", self.cursor),
            log => write!(formatter, "{}+{log}", self.cursor),
        }
    }
}

/// The unique id of a task: when it was created, and a number. The end of its object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// In nanoseconds since the Unix epoch.
    pub created: u64,
    /// A random number.
    pub number: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.created, self.number)
    }
}

impl FromStr for TaskId {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parsed = text.split_once('_').and_then(|(created, number)| {
            // What SQLite can't count is none of ours.
            let number_of = |digits: &str| digits.parse::<i64>().ok()?.try_into().ok();
            Some(Self { created: number_of(created)?, number: number_of(number)? })
        });
        parsed.ok_or_else(|| StoreError::NoTask(text.into()))
    }
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being worked on, or waits for its turn.
    Running,
    /// Its object is where it has to be.
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
    /// The key of its object.
    pub object: String,
    /// When its newest log was received, in Unix seconds.
    pub received: u64,
    /// What it is made by: the rule and the digests of its stages, as JSON.
    pub plan: String,
    /// The [revision](crate::StageNames::revision) of the names of stages that this plan was made at.
    pub revision: i64,
}

/// What is known of a task once all bytes of its object are. By default: that it has none, for no log was left for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seal {
    /// How many logs it has.
    pub rows: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes of the object.
    pub stored_bytes: u64,
    /// SHA-256 of the object, in hex; empty where there is none.
    pub sha256: String,
}

impl Seal {
    /// Whether there is an object that could be read and compared.
    pub fn has_object(&self) -> bool {
        !self.sha256.is_empty()
    }
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
    /// The key of its object.
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
    /// What is known of its object.
    pub seal: Option<Seal>,
    /// Why it failed, in a word.
    pub code: String,
    /// Why it failed.
    pub message: String,
    /// The digest of the stage that it failed in, at the last time.
    pub stage: Option<String>,
}

/// What keeps failing: the stage that the last tasks of a rule ended in, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The digest of the stage.
    pub stage: String,
    /// What the newest of them failed with.
    pub message: String,
}

/// Which tasks are meant; what is none restricts nothing.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of this project.
    pub project: Option<String>,
    /// Of this logstore.
    pub logstore: Option<String>,
    /// Of the rule of this name.
    pub rule: Option<String>,
    /// Of this shard.
    pub shard: Option<u32>,
    /// With this status.
    pub status: Option<Status>,
    /// Created at this time or later, in Unix seconds.
    pub from: Option<u64>,
    /// Created before the end of this second.
    pub to: Option<u64>,
}

/// How many tasks there are of each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// Those that run.
    pub running: u64,
    /// Those that succeeded.
    pub success: u64,
    /// Those that failed.
    pub failed: u64,
}

/// What there is of a shard behind a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// The position behind what was measured.
    pub next: u64,
    /// Its bytes before compression.
    pub bytes: u64,
    /// When the first of it was received, in Unix seconds; 0 if there is nothing.
    pub oldest: u64,
    /// When the last of it was received.
    pub newest: u64,
}

const COLUMNS: &str = "SELECT task.created, task.number, project.name, logstore.name, rule.name, task.rule,
    task.plan, shard, begin_cursor, begin_log, end_cursor, end_log, object, received, status, attempts, started,
    finished, next_try, sha256, rows, raw_bytes, stored_bytes, code, message, failures, task.stage
    FROM task JOIN rule ON rule.id = task.rule JOIN logstore ON logstore.id = rule.logstore
    JOIN project ON project.id = logstore.project";

const FILTER: &str = "(?1 IS NULL OR project.name = ?1) AND (?2 IS NULL OR logstore.name = ?2)
    AND (?3 IS NULL OR rule.name = ?3) AND (?4 IS NULL OR shard = ?4) AND (?5 IS NULL OR status = ?5)
    AND task.created >= ?6 AND task.created <= ?7";

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

    /// Writes down what the object of a task is, and that the task ends at `end`. What it leaves over is for the
    /// shard's next task; where there is one already, it becomes the task `rest`, with this object. Returns whether it did.
    pub async fn seal_task(
        &self,
        id: TaskId,
        end: Place,
        seal: Seal,
        rest: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let has_rest = shrink(connection, id, end, rest, now)?;
            connection
                .prepare_cached(
                    "UPDATE task SET sha256 = ?3, rows = ?4, raw_bytes = ?5, stored_bytes = ?6
                     WHERE created = ?1 AND number = ?2",
                )?
                .execute(params![
                    id.created,
                    id.number,
                    seal.sha256,
                    seal.rows,
                    seal.raw_bytes,
                    seal.stored_bytes
                ])?;
            Ok(has_rest)
        };
        self.writer.run(false, job).await
    }

    /// Writes down that a task ends at `end` and has so many rows, before it is known what becomes of them: whoever
    /// makes its object may do so without being heard. What it leaves over is as with [`seal_task`](Self::seal_task).
    pub async fn cut_task(
        &self,
        id: TaskId,
        end: Place,
        rows: u64,
        rest: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let has_rest = shrink(connection, id, end, rest, now)?;
            connection
                .prepare_cached("UPDATE task SET rows = ?3 WHERE created = ?1 AND number = ?2")?
                .execute(params![id.created, id.number, rows])?;
            Ok(has_rest)
        };
        self.writer.run(false, job).await
    }

    /// Lets a task that was cut be cut anew: it is sure that nothing was made of it.
    pub async fn uncut_task(&self, id: TaskId) -> Result<(), StoreError> {
        let job = move |connection: &Connection| {
            connection
                .prepare_cached(
                    "UPDATE task SET rows = NULL WHERE created = ?1 AND number = ?2 AND sha256 IS NULL",
                )?
                .execute(params![id.created, id.number])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }

    /// The object of a task is where it has to be: the checkpoint moves.
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

    /// Lets failed tasks be tried again at once: all that the filter means, or of these those of the given ids.
    /// Returns how many there are.
    pub async fn retry_tasks(
        &self,
        filter: TaskFilter,
        ids: Option<Vec<TaskId>>,
    ) -> Result<usize, StoreError> {
        let now = (self.options.clock)();
        let filter = TaskFilter { status: Some(Status::Failed), ..filter };
        let job = move |connection: &Connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT task.id, task.created, task.number FROM task JOIN rule ON rule.id = task.rule
                 JOIN logstore ON logstore.id = rule.logstore JOIN project ON project.id = logstore.project
                 WHERE {FILTER} AND rule.deleted IS NULL"
            ))?;
            let found = select.query_map(rusqlite::params_from_iter(filter.params()), |row| {
                Ok((row.get::<_, i64>(0)?, TaskId { created: row.get(1)?, number: row.get(2)? }))
            })?;
            let mut update = connection.prepare_cached("UPDATE task SET next_try = ?2 WHERE id = ?1")?;
            let mut count = 0;
            for task in found.collect::<Result<Vec<_>, _>>()? {
                if ids.as_ref().is_none_or(|ids| ids.contains(&task.1)) {
                    count += update.execute(params![task.0, now])?;
                }
            }
            Ok(count)
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

    /// A task. Blocks on the disk.
    pub fn task(&self, id: TaskId) -> Result<Task, StoreError> {
        self.with_reader(|connection| find(connection, id))
    }

    /// What a task is made by, as JSON. Blocks on the disk.
    pub fn plan(&self, plan: i64) -> Result<String, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM plan WHERE id = ?1")?;
            Ok(statement.query_row([plan], |row| row.get(0))?)
        })
    }

    /// The tasks that a filter means, the newest first: `size` of them from the one at `offset` on, and how many
    /// there are of each status whatever the filter says of it. Blocks on the disk.
    pub fn tasks(
        &self,
        filter: &TaskFilter,
        offset: usize,
        size: usize,
    ) -> Result<(Vec<Task>, TaskCounts), StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "{COLUMNS} WHERE {FILTER} ORDER BY task.created DESC, task.id DESC LIMIT ?8 OFFSET ?9"
            ))?;
            let (limit, skipped) = (size as i64, offset as i64);
            let mut parameters = filter.params();
            parameters.extend([Box::new(limit) as Parameter, Box::new(skipped)]);
            let tasks = select.query_map(rusqlite::params_from_iter(parameters), read)?;
            let tasks = tasks.collect::<Result<_, _>>()?;
            Ok((tasks, count(connection, &TaskFilter { status: None, ..filter.clone() })?))
        })
    }

    /// Forgets tasks that ended before `time`, in Unix microseconds, if they succeeded or their rule is gone; what
    /// failed for good and ended before `lost` too. Does a part of it: returns how many it forgot, at most
    /// [`FORGOTTEN`](Self::FORGOTTEN).
    pub async fn forget_tasks(&self, time: u64, lost: u64) -> Result<usize, StoreError> {
        let job = move |connection: &Connection| {
            let forgotten = connection.execute(
                "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE finished > 0 AND next_try IS NULL
                     AND ((finished < ?1 AND (status = 'success' OR (SELECT deleted FROM rule WHERE id = task.rule) IS NOT NULL))
                         OR (finished < ?2 AND status = 'fail')) LIMIT ?3)",
                params![time, lost, Self::FORGOTTEN],
            )?;
            // What nothing was made by any more, but for the newest of each rule.
            connection.execute(
                "DELETE FROM plan WHERE id NOT IN (SELECT plan FROM task)
                     AND id NOT IN (SELECT max(id) FROM plan GROUP BY rule)",
                [],
            )?;
            Ok(forgotten)
        };
        self.writer.run(false, job).await
    }

    /// Tasks that are forgotten at one time: no put waits long for it.
    pub const FORGOTTEN: usize = 1000;

    /// All that a task was, or a next one may be, made by: the plans as JSON. Blocks on the disk.
    pub fn plans(&self) -> Result<Vec<String>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM plan")?;
            let plans = statement.query_map([], |row| row.get(0))?;
            Ok(plans.collect::<Result<_, _>>()?)
        })
    }

    /// What there is of a shard from a position on, up to about `bytes` before compression. Blocks on the disk.
    pub fn measure(&self, shard: &Shard, from: u64, bytes: u64) -> Result<Measured, StoreError> {
        let (begin, end) = (from.max(shard.begin()), shard.end());
        let mut measured = Measured { next: begin, ..Measured::default() };
        if begin >= end {
            return Ok(measured);
        }
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, size, received FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id",
            )?;
            let mut rows = statement.query([shard.row(begin), shard.row(end)])?;
            while measured.bytes < bytes
                && let Some(row) = rows.next()?
            {
                measured.next = shard.position(row.get(0)?) + 1;
                measured.bytes += row.get::<_, u64>(1)?;
                measured.newest = row.get(2)?;
                if measured.oldest == 0 {
                    measured.oldest = measured.newest;
                }
            }
            Ok(measured)
        })
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

type Parameter = Box<dyn rusqlite::ToSql>;

impl TaskFilter {
    /// What [`FILTER`] asks for, in its order.
    fn params(&self) -> Vec<Parameter> {
        const SECOND: u64 = 1_000_000_000;
        let until = |to: u64| to.saturating_add(1).saturating_mul(SECOND).min(u64::MAX >> 1);
        vec![
            Box::new(self.project.clone()),
            Box::new(self.logstore.clone()),
            Box::new(self.rule.clone()),
            Box::new(self.shard),
            Box::new(self.status.map(Status::as_str)),
            Box::new(self.from.unwrap_or(0).saturating_mul(SECOND).min(u64::MAX >> 1)),
            Box::new(self.to.map_or(u64::MAX >> 1, until)),
        ]
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

fn save_plan(connection: &Connection, rule: i64, plan: &str, now: u64) -> Result<i64, StoreError> {
    // The newest that reads the same: rules change back, too.
    let newest = connection
        .prepare_cached("SELECT id FROM plan WHERE rule = ?1 AND content = ?2")?
        .query_row(params![rule, plan], |row| row.get(0))
        .optional()?;
    if let Some(plan) = newest {
        return Ok(plan);
    }
    connection
        .prepare_cached("INSERT INTO plan (rule, content, created) VALUES (?1, ?2, ?3)")?
        .execute(params![rule, plan, now / 1_000_000])?;
    Ok(connection.last_insert_rowid())
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

/// Lets a task that runs end at `end`. What it leaves over is for the shard's next task; where there is one already, it
/// becomes the task `rest`, with this object. Returns whether it did.
fn shrink(
    connection: &Connection,
    id: TaskId,
    end: Place,
    (rest, object): (TaskId, String),
    now: u64,
) -> Result<bool, StoreError> {
    let task = find(connection, id)?;
    if task.status != Status::Running {
        // Its rule was deleted meanwhile.
        return Err(StoreError::NoTask(id.to_string()));
    }
    let mut has_rest = false;
    if end < task.end {
        if next_of(connection, task.rule_number, task.shard)? == Some(task.end) {
            save_next(connection, task.rule_number, task.shard, end)?;
        } else {
            let rest = NewTask {
                id: rest,
                shard: task.shard,
                begin: end,
                end: task.end,
                object,
                received: task.received,
                plan: String::new(),
                revision: 0,
            };
            insert(connection, task.rule_number, task.plan, &rest, 0, now)?;
            has_rest = true;
        }
    }
    connection
        .prepare_cached("UPDATE task SET end_cursor = ?3, end_log = ?4 WHERE created = ?1 AND number = ?2")?
        .execute(params![id.created, id.number, end.cursor, end.log])?;
    Ok(has_rest)
}

fn find(connection: &Connection, id: TaskId) -> Result<Task, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("{COLUMNS} WHERE task.created = ?1 AND task.number = ?2"))?;
    let found = statement.query_row([id.created, id.number], read).optional()?;
    found.ok_or_else(|| StoreError::NoTask(id.to_string()))
}

fn read(row: &Row<'_>) -> Result<Task, rusqlite::Error> {
    let sha256: Option<String> = row.get(19)?;
    let seal = match sha256 {
        Some(sha256) => {
            Some(Seal { sha256, rows: row.get(20)?, raw_bytes: row.get(21)?, stored_bytes: row.get(22)? })
        }
        None => None,
    };
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
        seal,
        code: row.get(23)?,
        message: row.get(24)?,
        failures: row.get(25)?,
        stage: row.get(26)?,
    })
}

fn count(connection: &Connection, filter: &TaskFilter) -> Result<TaskCounts, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT status, count(*) FROM task JOIN rule ON rule.id = task.rule
         JOIN logstore ON logstore.id = rule.logstore JOIN project ON project.id = logstore.project
         WHERE {FILTER} GROUP BY status"
    ))?;
    let mut rows = statement.query(rusqlite::params_from_iter(filter.params()))?;
    let mut counts = TaskCounts::default();
    while let Some(row) = rows.next()? {
        let count = row.get(1)?;
        match row.get::<_, String>(0)?.parse() {
            Ok(Status::Running) => counts.running = count,
            Ok(Status::Success) => counts.success = count,
            Ok(Status::Failed) | Err(()) => counts.failed = count,
        }
    }
    Ok(counts)
}
