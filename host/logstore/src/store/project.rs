//! Creates, updates and deletes projects.

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::logstore::drop_logstore;
use crate::error::StoreError;

impl Store {
    /// Creates a project.
    pub async fn create_project(&self, name: &str, description: &str) -> Result<(), StoreError> {
        let (name, description, now) = (name.to_owned(), description.to_owned(), self.now());
        let job = move |connection: &Connection| {
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO project (name, description, created, modified) VALUES (?1, ?2, ?3, ?3)",
                params![name, description, now],
            )?;
            if inserted == 0 { Err(StoreError::ProjectExists(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Updates the description of a project.
    pub async fn update_project(&self, name: &str, description: &str) -> Result<(), StoreError> {
        let (name, description, now) = (name.to_owned(), description.to_owned(), self.now());
        let job = move |connection: &Connection| {
            let changed = connection.execute(
                "UPDATE project SET description = ?2, modified = ?3 WHERE name = ?1",
                params![name, description, now],
            )?;
            if changed == 0 { Err(StoreError::NoProject(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Deletes a project with all its logstores, for good.
    pub async fn delete_project(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        let job = move |connection: &Connection| {
            let project = find_project(connection, &name)?;
            drop_project(connection, project)
        };
        self.writer.run(true, job).await
    }
}

/// Returns the id of a project.
pub(super) fn find_project(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    let found = connection.query_row("SELECT id FROM project WHERE name = ?1", [name], |row| row.get(0));
    found.optional()?.ok_or_else(|| StoreError::NoProject(name.into()))
}

/// Deletes a project with all its logstores.
pub(super) fn drop_project(connection: &Connection, project: i64) -> Result<(), StoreError> {
    let mut select = connection.prepare_cached("SELECT id FROM logstore WHERE project = ?1")?;
    let logstores = select.query_map([project], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    logstores.into_iter().try_for_each(|logstore| drop_logstore(connection, logstore))?;
    connection.execute("DELETE FROM project WHERE id = ?1", [project])?;
    Ok(())
}
