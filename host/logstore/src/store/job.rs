//! Creates, updates, deletes and reads jobs.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::Store;
use super::json::read_json;
use super::project::find_project;
use crate::error::StoreError;
use crate::model::SyncJob;

const COLUMNS: &str =
    "SELECT job.id, project.name, job.name, configuration, job.created, job.modified, next, skipped, waits
    FROM job JOIN project ON project.id = job.project
    WHERE project.id NOT IN (SELECT project FROM deleted_project)";

impl Store {
    /// Creates a job. `next` is its first scheduled time, if it has a schedule.
    pub async fn create_job(
        &self,
        project: &str,
        name: &str,
        configuration: &Value,
        next: Option<u64>,
    ) -> Result<(), StoreError> {
        let (project, name, now) = (project.to_owned(), name.to_owned(), self.now());
        let configuration = configuration.to_string();
        let job = move |connection: &Connection| {
            let project = find_project(connection, &project)?;
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO job (project, name, configuration, created, modified, next)
                 VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
                params![project, name, configuration, now, next],
            )?;
            if inserted == 0 { Err(StoreError::JobExists(name)) } else { Ok(()) }
        };
        self.writer.run(false, job).await
    }

    /// Updates a job. Runs that have a plan keep it.
    pub async fn update_job(
        &self,
        project: &str,
        name: &str,
        configuration: &Value,
        next: Option<u64>,
    ) -> Result<(), StoreError> {
        let (project, name, now) = (project.to_owned(), name.to_owned(), self.now());
        let configuration = configuration.to_string();
        let job = move |connection: &Connection| {
            let id = find(connection, &project, &name)?.id;
            connection.execute(
                "UPDATE job SET configuration = ?2, modified = ?3, next = ?4 WHERE id = ?1",
                params![id, configuration, now, next],
            )?;
            Ok(())
        };
        self.writer.run(false, job).await
    }

    /// Deletes a job with its runs.
    ///
    /// # Errors
    /// [`StoreError::ActiveRun`] if a run has not ended.
    pub async fn delete_job(&self, project: &str, name: &str) -> Result<(), StoreError> {
        let (project, name) = (project.to_owned(), name.to_owned());
        let job = move |connection: &Connection| {
            let id = find(connection, &project, &name)?.id;
            check_idle(connection, id, &name)?;
            connection.execute("DELETE FROM job WHERE id = ?1", [id])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }

    /// Returns the jobs of a project by name, or of all projects. Blocks on disk I/O.
    pub fn jobs(&self, project: Option<&str>) -> Result<Vec<SyncJob>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "{COLUMNS} AND (?1 IS NULL OR project.name = ?1) ORDER BY project.name, job.name"
            ))?;
            Ok(select.query_map([project], read)?.collect::<Result<_, _>>()?)
        })
    }

    /// Returns a job. Blocks on disk I/O.
    pub fn job(&self, project: &str, name: &str) -> Result<SyncJob, StoreError> {
        self.with_reader(|connection| find(connection, project, name))
    }

    /// Sets the next scheduled time of a job, unless it has one.
    pub async fn begin_schedule(&self, job: i64, next: u64) -> Result<(), StoreError> {
        let begin = move |connection: &Connection| {
            connection
                .execute("UPDATE job SET next = ?2 WHERE id = ?1 AND next IS NULL", params![job, next])?;
            Ok(())
        };
        self.writer.run(false, begin).await
    }
}

pub(super) fn find(connection: &Connection, project: &str, name: &str) -> Result<SyncJob, StoreError> {
    let mut select =
        connection.prepare_cached(&format!("{COLUMNS} AND project.name = ?1 AND job.name = ?2"))?;
    let found = select.query_row([project, name], read).optional()?;
    found.ok_or_else(|| StoreError::NoJob(name.into()))
}

/// Fails if a run of the job has not ended.
pub(super) fn check_idle(connection: &Connection, job: i64, name: &str) -> Result<(), StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id FROM run WHERE job = ?1 AND state IN ('waiting', 'running') ORDER BY id",
    )?;
    match select.query_row([job], |row| row.get(0)).optional()? {
        Some(run) => Err(StoreError::ActiveRun { job: name.into(), run }),
        None => Ok(()),
    }
}

/// Lets all jobs wait for an operator, because another life of the store may run them.
pub(super) fn wait(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("UPDATE job SET waits = 1", [])?;
    Ok(())
}

/// Lets the waiting jobs go on: with their missed runs, or from now on.
pub(super) fn go_on(connection: &Connection, skips: bool, now: u64) -> Result<(), StoreError> {
    if skips {
        connection.execute("UPDATE job SET next = NULL WHERE waits", [])?;
        connection.execute(
            "UPDATE run SET state = 'stopped', finished = ?1, next_try = NULL,
                 message = 'skipped: another life of the store ran it'
             WHERE state IN ('waiting', 'running') AND job IN (SELECT id FROM job WHERE waits)",
            [now],
        )?;
    }
    connection.execute("UPDATE job SET waits = 0", [])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<SyncJob, rusqlite::Error> {
    Ok(SyncJob {
        id: row.get(0)?,
        project: row.get(1)?,
        name: row.get(2)?,
        configuration: read_json(row, 3)?,
        created: row.get(4)?,
        modified: row.get(5)?,
        next: row.get(6)?,
        skipped: row.get(7)?,
        waits: row.get(8)?,
    })
}
