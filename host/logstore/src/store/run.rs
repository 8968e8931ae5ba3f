//! Runs of jobs, and their durable state. Each step of a run is on disk before the request that depends on it.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use super::job::check_idle;
use super::json::read_json;
use crate::error::StoreError;
use crate::model::{JobRun, NewRun, RunEnd, RunState, SyncJob};

const COLUMNS: &str =
    "SELECT run.id, job, project.name, job.name, scheduled, trigger, state, parameters, plan, session,
        committing, progress, attempts, failures, run.created, started, finished, next_try, code, message
    FROM run JOIN job ON job.id = run.job JOIN project ON project.id = job.project
    WHERE project.id NOT IN (SELECT project FROM deleted_project)";

/// The time after which ended runs are deleted, in microseconds.
const KEEP: u64 = 92 * 86_400 * 1_000_000;

impl Store {
    /// Creates runs on request.
    ///
    /// # Errors
    /// [`StoreError::ActiveRun`] if a run of the job has not ended.
    pub async fn create_runs(&self, job: &SyncJob, runs: Vec<NewRun>) -> Result<Vec<i64>, StoreError> {
        let (id, name, now) = (job.id, job.name.clone(), self.clock());
        let create = move |connection: &Connection| {
            check_idle(connection, id, &name)?;
            runs.iter().map(|run| insert(connection, id, run, now)).collect()
        };
        self.writer.run(false, create).await
    }

    /// Creates the runs of a schedule, and moves it on in the same transaction. `skipped` runs were too many to catch up.
    pub async fn schedule_runs(
        &self,
        job: &SyncJob,
        runs: Vec<NewRun>,
        next: u64,
        skipped: u64,
    ) -> Result<(), StoreError> {
        let (id, before, now) = (job.id, job.next, self.clock());
        // No run is too old if nothing expires.
        let oldest = self.expiry_time().map(|time| time.saturating_sub(KEEP));
        let schedule = move |connection: &Connection| {
            let moved = connection.execute(
                "UPDATE job SET next = ?3, skipped = skipped + ?4 WHERE id = ?1 AND next IS ?2 AND NOT waits",
                params![id, before, next, skipped],
            )?;
            if moved == 1 {
                for run in &runs {
                    insert(connection, id, run, now)?;
                }
                connection.execute(
                    "DELETE FROM run WHERE job = ?1 AND finished > 0 AND finished < ?2",
                    params![id, oldest],
                )?;
            }
            Ok(())
        };
        self.writer.run(false, schedule).await
    }

    /// Returns a run of a job. Blocks on disk I/O.
    pub fn run(&self, job: i64, id: i64) -> Result<JobRun, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!("{COLUMNS} AND job = ?1 AND run.id = ?2"))?;
            select.query_row([job, id], read).optional()?.ok_or(StoreError::NoRun(id))
        })
    }

    /// Returns the number of runs of a job, and a page of them, newest first. Blocks on disk I/O.
    pub fn runs(&self, job: i64, offset: usize, size: usize) -> Result<(u64, Vec<JobRun>), StoreError> {
        self.with_reader(|connection| {
            let count =
                connection.query_row("SELECT count(*) FROM run WHERE job = ?1", [job], |row| row.get(0))?;
            let mut select = connection
                .prepare_cached(&format!("{COLUMNS} AND job = ?1 ORDER BY run.id DESC LIMIT ?2 OFFSET ?3"))?;
            let runs = select.query_map(params![job, size, offset], read)?;
            Ok((count, runs.collect::<Result<_, _>>()?))
        })
    }

    /// Returns the runs that have not ended, oldest first, without those of waiting jobs. Blocks on disk I/O.
    pub fn active_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "{COLUMNS} AND NOT waits AND state IN ('waiting', 'running') ORDER BY scheduled, run.id"
            ))?;
            Ok(select.query_map([], read)?.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the runs of a job that wrote rows, or may have, newest first. Blocks on disk I/O.
    pub fn written_runs(&self, job: i64) -> Result<Vec<JobRun>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "{COLUMNS} AND job = ?1 AND state IN ('success', 'unclear') ORDER BY run.id DESC"
            ))?;
            Ok(select.query_map([job], read)?.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the runs of [`written_runs`](Self::written_runs) that were requested, and not scheduled.
    pub fn requested_written_runs(&self, job: i64) -> Result<Vec<JobRun>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "{COLUMNS} AND job = ?1 AND state IN ('success', 'unclear') AND trigger <> 'schedule'"
            ))?;
            Ok(select.query_map([job], read)?.collect::<Result<_, _>>()?)
        })
    }

    /// Begins an attempt. Returns false if the run was stopped in the meantime.
    pub async fn start_run(&self, id: i64) -> Result<bool, StoreError> {
        let now = self.clock();
        self.update_run(
            "UPDATE run SET state = 'running', attempts = attempts + 1, started = ?2, next_try = NULL
             WHERE id = ?1 AND state IN ('waiting', 'running')",
            (id, now),
        )
        .await
    }

    /// Lets a run wait until a time, in Unix microseconds. Its attempt does not count.
    pub async fn defer_run(&self, id: i64, until: u64) -> Result<(), StoreError> {
        let statement = "UPDATE run SET state = 'waiting', next_try = ?2 WHERE id = ?1 AND state IN ('waiting', 'running')";
        self.update_run(statement, (id, until)).await.map(drop)
    }

    /// Saves the plan of a run. Returns false if the run was stopped.
    pub async fn save_run_plan(&self, id: i64, plan: String) -> Result<bool, StoreError> {
        self.update_run(
            "UPDATE run SET plan = ?2 WHERE id = ?1 AND state = 'running' AND plan IS NULL",
            (id, plan),
        )
        .await
    }

    /// Saves the upload session of a run, which has no blocks yet. Returns false if the run was stopped.
    pub async fn save_run_session(&self, id: i64, session: Option<String>) -> Result<bool, StoreError> {
        self.update_run(
            "UPDATE run SET session = ?2, progress = NULL, committing = 0 WHERE id = ?1 AND state = 'running'",
            (id, session),
        )
        .await
    }

    /// Saves the blocks that the session of a run has. Returns false if the run was stopped.
    pub async fn save_run_progress(&self, id: i64, progress: String) -> Result<bool, StoreError> {
        self.update_run("UPDATE run SET progress = ?2 WHERE id = ?1 AND state = 'running'", (id, progress))
            .await
    }

    /// Records that the commit of a run is about to be sent. The run can't be stopped any more. Returns false if it was
    /// stopped.
    pub async fn begin_run_commit(&self, id: i64) -> Result<bool, StoreError> {
        self.update_run("UPDATE run SET committing = ?2 WHERE id = ?1 AND state = 'running'", (id, true))
            .await
    }

    /// Ends an attempt. Returns false if the run was stopped.
    pub async fn end_run(&self, id: i64, end: RunEnd) -> Result<bool, StoreError> {
        let now = self.clock();
        let job = move |connection: &Connection| {
            let finished = if end.state.is_active() { 0 } else { now };
            let failed = end.state != RunState::Success;
            let changed = connection.execute(
                "UPDATE run SET state = ?2, code = ?3, message = ?4, next_try = ?5, finished = ?6, failures = failures + ?7
                 WHERE id = ?1 AND state IN ('waiting', 'running')",
                params![id, end.state.as_str(), end.code, end.message, end.next_attempt, finished, failed],
            )?;
            Ok(changed == 1)
        };
        self.writer.run(false, job).await
    }

    /// Stops a run of a job.
    ///
    /// # Errors
    /// [`StoreError::RunEnded`], or [`StoreError::RunCommitting`] if its rows may be visible.
    pub async fn stop_run(&self, job: i64, id: i64) -> Result<(), StoreError> {
        let now = self.clock();
        let stop = move |connection: &Connection| {
            let mut select = connection.prepare_cached(&format!("{COLUMNS} AND job = ?1 AND run.id = ?2"))?;
            let run = select.query_row([job, id], read).optional()?.ok_or(StoreError::NoRun(id))?;
            if !run.state.is_active() {
                return Err(StoreError::RunEnded(id));
            }
            if run.is_committing {
                return Err(StoreError::RunCommitting(id));
            }
            connection.execute(
                "UPDATE run SET state = 'stopped', finished = ?2, next_try = NULL, code = '', message = 'stopped on request'
                 WHERE id = ?1",
                params![id, now],
            )?;
            Ok(())
        };
        self.writer.run(false, stop).await
    }

    /// Runs an update of a run. Returns true if it changed the run.
    async fn update_run<T>(&self, statement: &'static str, (id, value): (i64, T)) -> Result<bool, StoreError>
    where
        T: rusqlite::ToSql + Send + 'static,
    {
        let job = move |connection: &Connection| {
            Ok(connection.prepare_cached(statement)?.execute(params![id, value])? == 1)
        };
        self.writer.run(false, job).await
    }
}

fn insert(connection: &Connection, job: i64, run: &NewRun, now: u64) -> Result<i64, StoreError> {
    let NewRun { scheduled, trigger, parameters, plan } = run;
    // After the clock was set back, a schedule comes to the same times again.
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO run (job, scheduled, trigger, state, parameters, plan, created)
             VALUES (?1, ?2, ?3, 'waiting', ?4, ?5, ?6)",
        )?
        .execute(params![job, scheduled, trigger.as_str(), parameters.to_string(), plan, now])?;
    Ok(connection.last_insert_rowid())
}

fn read(row: &Row<'_>) -> Result<JobRun, rusqlite::Error> {
    let invalid = |column: usize, error: String| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    };
    Ok(JobRun {
        id: row.get(0)?,
        job: row.get(1)?,
        project: row.get(2)?,
        job_name: row.get(3)?,
        scheduled: row.get(4)?,
        trigger: row.get::<_, String>(5)?.parse().map_err(|error| invalid(5, error))?,
        state: row.get::<_, String>(6)?.parse().map_err(|error| invalid(6, error))?,
        parameters: read_json(row, 7)?,
        plan: row.get(8)?,
        session: row.get(9)?,
        is_committing: row.get(10)?,
        progress: row.get(11)?,
        attempts: row.get(12)?,
        failures: row.get(13)?,
        created: row.get(14)?,
        started: row.get(15)?,
        finished: row.get(16)?,
        next_attempt: row.get(17)?,
        code: row.get(18)?,
        message: row.get(19)?,
    })
}
