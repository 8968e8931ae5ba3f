//! Saves the logs that jobs have not read yet, which retention keeps.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use crate::error::StoreError;
use crate::model::Unread;

impl Store {
    /// Returns the unread logs of jobs by the number of the job. Blocks on disk I/O.
    pub fn unread(&self) -> Result<HashMap<i64, Unread>, StoreError> {
        self.with_reader(|connection| {
            let mut select =
                connection.prepare_cached("SELECT job, project, logstore, since FROM job_unread")?;
            let read = |row: &rusqlite::Row<'_>| {
                let unread = Unread { project: row.get(1)?, logstore: row.get(2)?, since: row.get(3)? };
                Ok((row.get(0)?, unread))
            };
            Ok(select.query_map([], read)?.collect::<Result<_, _>>()?)
        })
    }

    /// Saves the unread logs of jobs; `None` if a job has none. A job that was deleted meanwhile has none.
    pub async fn save_unread(&self, changes: Vec<(i64, Option<Unread>)>) -> Result<(), StoreError> {
        let save = move |connection: &Connection| {
            for (job, unread) in &changes {
                connection.execute("DELETE FROM job_unread WHERE job = ?1", [job])?;
                let Some(Unread { project, logstore, since }) = unread else { continue };
                connection.execute(
                    "INSERT INTO job_unread (job, project, logstore, since)
                     SELECT id, ?2, ?3, ?4 FROM job WHERE id = ?1",
                    params![job, project, logstore, since],
                )?;
            }
            Ok(())
        };
        self.writer.run(false, save).await
    }
}

/// Returns the job that is the furthest behind in a Logstore, with its name, and the receipt of the first log that it has
/// not read, in Unix seconds.
pub(super) fn kept_by_job(
    connection: &Connection,
    project: &str,
    logstore: &str,
) -> Result<Option<(i64, String, u64)>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT job.id, job.name, since FROM job_unread JOIN job ON job.id = job_unread.job
         WHERE job_unread.project = ?1 AND logstore = ?2 ORDER BY since LIMIT 1",
    )?;
    Ok(select.query_row([project, logstore], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?)
}
