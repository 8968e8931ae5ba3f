//! Creates, updates and deletes logstores.

use logship_sls::hash_key::HashRange;
use rusqlite::{Connection, params};

use super::Store;
use super::hold::check_not_held;
use super::project::find_project;
use super::shard::insert_shard;
use crate::error::StoreError;
use crate::model::LogstoreSettings;

impl Store {
    /// Creates a logstore. Its shards divide the keys evenly.
    pub async fn create_logstore(
        &self,
        project: &str,
        name: &str,
        shards: u32,
        settings: &LogstoreSettings,
    ) -> Result<(), StoreError> {
        if shards > self.options.shards {
            return Err(StoreError::TooManyShards(self.options.shards));
        }
        let (project, name, settings) = (project.to_owned(), name.to_owned(), settings.clone());
        let (origin, now) = (self.new_position(), self.now());
        let job = move |connection: &Connection| {
            insert_logstore(connection, &project, &name, shards, &settings, (origin, now))
        };
        self.writer.run(true, job).await
    }

    /// Updates the settings of a logstore.
    pub async fn update_logstore(
        &self,
        project: &str,
        name: &str,
        settings: &LogstoreSettings,
    ) -> Result<(), StoreError> {
        let logstore = self.catalog().logstore(project, name)?.id;
        let (name, settings, now) = (name.to_owned(), settings.clone(), self.now());
        let job = move |connection: &Connection| {
            let changed = connection.execute(
                "UPDATE logstore SET ttl = ?2, settings = ?3, modified = ?4 WHERE id = ?1",
                params![logstore, settings.ttl, settings.settings.to_string(), now],
            )?;
            if changed == 0 { Err(StoreError::NoLogstore(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Deletes a logstore for good. Its logs are unreadable at once, and are deleted from disk in small steps.
    pub async fn delete_logstore(&self, project: &str, name: &str) -> Result<(), StoreError> {
        let id = self.catalog().logstore(project, name)?.id;
        self.writer.run(true, move |connection| drop_logstore(connection, id)).await
    }
}

/// Inserts a logstore and its shards.
pub(super) fn insert_logstore(
    connection: &Connection,
    project: &str,
    name: &str,
    shards: u32,
    settings: &LogstoreSettings,
    (origin, now): (u64, u64),
) -> Result<(), StoreError> {
    let project = find_project(connection, project)?;
    let inserted = connection.execute(
        "INSERT OR IGNORE INTO logstore (project, name, ttl, settings, created, modified)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        params![project, name, settings.ttl, settings.settings.to_string(), now],
    )?;
    if inserted == 0 {
        return Err(StoreError::LogstoreExists(name.into()));
    }
    let logstore = connection.last_insert_rowid();
    for (number, keys) in (0..).zip(HashRange::evenly(shards)) {
        insert_shard(connection, logstore, number, keys, &[], (origin, now))?;
    }
    Ok(())
}

/// Deletes a logstore, unless it is under a legal hold. Its shards stay, without a logstore, until retention has deleted their logs.
pub(super) fn drop_logstore(connection: &Connection, logstore: i64) -> Result<(), StoreError> {
    check_not_held(connection, "logstore.id = ?1", logstore)?;
    connection.execute("UPDATE shard SET logstore = NULL WHERE logstore = ?1", [logstore])?;
    connection.execute("DELETE FROM logstore WHERE id = ?1", [logstore])?;
    Ok(())
}
