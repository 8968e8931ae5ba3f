//! Creates, updates and deletes projects, logstores and shards.

use logship_sls::hash_key::{HashKey, HashRange};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::error::StoreError;
use crate::store::Store;

/// The settings of a logstore.
#[derive(Debug, Clone)]
pub struct LogstoreSettings {
    /// The time to live of logs, in days; [`FOREVER`](crate::FOREVER) keeps them forever.
    pub ttl: u32,
    /// Other settings of the client, returned unchanged.
    pub settings: Value,
}

/// A change of shards.
#[derive(Debug, Clone, Copy)]
pub enum Resharding {
    /// Splits a shard in two. The second shard gets the keys from `at` on. By default each shard gets half of the keys.
    Split {
        /// The first key of the second shard.
        at: Option<HashKey>,
    },
    /// Merges a shard with the shard of the next keys.
    Merge,
}

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

    /// Deletes a project with all its logstores.
    pub async fn delete_project(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        let job = move |connection: &Connection| {
            let project = find_project(connection, &name)?;
            let mut select = connection.prepare("SELECT id FROM logstore WHERE project = ?1")?;
            let logstores =
                select.query_map([project], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            logstores.into_iter().try_for_each(|logstore| drop_logstore(connection, logstore))?;
            connection.execute("DELETE FROM project WHERE id = ?1", [project])?;
            Ok(())
        };
        self.writer.run(true, job).await
    }

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
        let origin = (self.options.clock)();
        let job = move |connection: &Connection| {
            let project = find_project(connection, &project)?;
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO logstore (project, name, ttl, settings, created, modified)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                params![project, name, settings.ttl, settings.settings.to_string(), origin / 1_000_000],
            )?;
            if inserted == 0 {
                return Err(StoreError::LogstoreExists(name));
            }
            let logstore = connection.last_insert_rowid();
            for (number, keys) in (0..).zip(HashRange::evenly(shards)) {
                insert_shard(connection, logstore, number, keys, &[], origin)?;
            }
            Ok(())
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

    /// Deletes a logstore. Its logs are unreadable at once, and are deleted from disk in small steps.
    pub async fn delete_logstore(&self, project: &str, name: &str) -> Result<(), StoreError> {
        let id = self.catalog().logstore(project, name)?.id;
        self.writer.run(true, move |connection| drop_logstore(connection, id)).await
    }

    /// Splits a shard, or merges it with the next one. Returns the numbers of all affected shards, the new ones last.
    pub async fn reshard(
        &self,
        project: &str,
        logstore: &str,
        shard: u32,
        operation: Resharding,
    ) -> Result<Vec<u32>, StoreError> {
        let catalog = self.catalog();
        let logstore = catalog.logstore(project, logstore)?;
        let first = logstore.shard(shard)?;
        if !first.writable {
            return Err(StoreError::ReadOnlyShard(shard));
        }
        let (mut parents, children) = match operation {
            Resharding::Split { at } => {
                if logstore.writable().count() >= self.options.shards as usize {
                    return Err(StoreError::TooManyShards(self.options.shards));
                }
                let at = at.unwrap_or_else(|| first.keys.midpoint());
                let (low, high) =
                    first.keys.split(at).map_err(|source| StoreError::Resharding { shard, source })?;
                (vec![shard], vec![low, high])
            }
            Resharding::Merge => {
                let next = logstore.writable().find(|next| next.keys.begin == first.keys.end);
                let next = next.ok_or(StoreError::NoAdjacentShard(shard))?;
                let merged = first.keys.merge(&next.keys);
                let keys = merged.map_err(|source| StoreError::Resharding { shard, source })?;
                (vec![shard, next.number], vec![keys])
            }
        };
        let (logstore, origin, sources) = (logstore.id, (self.options.clock)(), parents.clone());
        let job = move |connection: &Connection| {
            for parent in &sources {
                let closed = connection.execute(
                    "UPDATE shard SET writable = 0 WHERE logstore = ?1 AND number = ?2 AND writable",
                    params![logstore, parent],
                )?;
                if closed == 0 {
                    return Err(StoreError::ReadOnlyShard(*parent));
                }
            }
            let first: u32 = connection.query_row(
                "SELECT max(number) + 1 FROM shard WHERE logstore = ?1",
                [logstore],
                |row| row.get(0),
            )?;
            let mut created = vec![];
            for (number, keys) in (first..).zip(children) {
                insert_shard(connection, logstore, number, keys, &sources, origin)?;
                created.push(number);
            }
            Ok(created)
        };
        parents.extend(self.writer.run(true, job).await?);
        Ok(parents)
    }

    /// Returns the current time in Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        (self.options.clock)() / 1_000_000
    }
}

fn find_project(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    let found = connection.query_row("SELECT id FROM project WHERE name = ?1", [name], |row| row.get(0));
    found.optional()?.ok_or_else(|| StoreError::NoProject(name.into()))
}

/// Inserts a shard. `origin` is its first position: the current time in microseconds. So the cursors of an earlier
/// logstore of the same name are all smaller.
fn insert_shard(
    connection: &Connection,
    logstore: i64,
    number: u32,
    keys: HashRange,
    parents: &[u32],
    origin: u64,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO shard (logstore, number, writable, begin_key, end_key, parents, created, origin, next)
         VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?7)",
        params![
            logstore,
            number,
            keys.begin.to_string(),
            keys.end.to_string(),
            Value::from(parents).to_string(),
            origin / 1_000_000,
            origin
        ],
    )?;
    Ok(())
}

/// Deletes a logstore. Its shards stay, without a logstore, until retention has deleted their logs.
fn drop_logstore(connection: &Connection, logstore: i64) -> Result<(), StoreError> {
    connection.execute("UPDATE shard SET logstore = NULL WHERE logstore = ?1", [logstore])?;
    connection.execute("DELETE FROM logstore WHERE id = ?1", [logstore])?;
    Ok(())
}
