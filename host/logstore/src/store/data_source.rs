//! Creates, updates and deletes the data sources of projects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, params};
use serde_json::Value;

use super::Store;
use super::json::read_json;
use super::project::find_project;
use crate::error::StoreError;
use crate::model::StoredSource;

/// The largest number of data sources of a project.
const MAX_SOURCES: u32 = 500;

impl Store {
    /// Creates a data source.
    ///
    /// # Errors
    /// [`StoreError::SourceExists`] if the project has one of this name, [`StoreError::SourceQuota`] if it has too many.
    pub async fn create_source(&self, project: &str, name: &str, content: Value) -> Result<(), StoreError> {
        let (project, name, now) = (project.to_owned(), name.to_owned(), self.now());
        let job = move |connection: &Connection| {
            let project = find_project(connection, &project)?;
            let count: u32 = connection.query_row(
                "SELECT count(*) FROM data_source WHERE project = ?1",
                [project],
                |row| row.get(0),
            )?;
            if count >= MAX_SOURCES {
                return Err(StoreError::SourceQuota(MAX_SOURCES));
            }
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO data_source (project, name, content, created, modified)
                 VALUES (?1, ?2, ?3, ?4, ?4)",
                params![project, name, content.to_string(), now],
            )?;
            if inserted == 0 { Err(StoreError::SourceExists(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Updates a data source.
    ///
    /// # Errors
    /// [`StoreError::NoSource`] if the project has none of this name.
    pub async fn update_source(&self, project: &str, name: &str, content: Value) -> Result<(), StoreError> {
        let (project, name, now) = (project.to_owned(), name.to_owned(), self.now());
        let job = move |connection: &Connection| {
            let project = find_project(connection, &project)?;
            let changed = connection.execute(
                "UPDATE data_source SET content = ?3, modified = ?4 WHERE project = ?1 AND name = ?2",
                params![project, name, content.to_string(), now],
            )?;
            if changed == 0 { Err(StoreError::NoSource(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Deletes a data source.
    ///
    /// # Errors
    /// [`StoreError::NoSource`] if the project has none of this name.
    pub async fn delete_source(&self, project: &str, name: &str) -> Result<(), StoreError> {
        let (project, name) = (project.to_owned(), name.to_owned());
        let job = move |connection: &Connection| {
            let project = find_project(connection, &project)?;
            let deleted = connection.execute(
                "DELETE FROM data_source WHERE project = ?1 AND name = ?2",
                params![project, name],
            )?;
            if deleted == 0 { Err(StoreError::NoSource(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }
}

/// Reads the data sources of all projects, by project.
pub(super) fn read_sources(
    connection: &Connection,
) -> Result<HashMap<i64, BTreeMap<String, Arc<StoredSource>>>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT project, name, content, created, modified FROM data_source")?;
    let mut rows = statement.query([])?;
    let mut sources: HashMap<i64, BTreeMap<String, Arc<StoredSource>>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let source = StoredSource {
            name: row.get(1)?,
            content: read_json(row, 2)?,
            created: row.get(3)?,
            modified: row.get(4)?,
        };
        sources.entry(row.get(0)?).or_default().insert(source.name.clone(), Arc::new(source));
    }
    Ok(sources)
}
