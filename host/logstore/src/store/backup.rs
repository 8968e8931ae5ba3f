//! Backups: copies of the database while it is in use.
//!
//! A backup must not ship twice what the store ships after it. So everything that is not shipped yet belongs to
//! **sealed** tasks, in the store and in the backup: their ids, keys, plans and ranges are equal, so a restored backup
//! makes the same objects under the same keys.

use std::path::Path;

use rusqlite::Connection;

use super::Store;
use super::rule::save_next;
use super::task::{backlog, insert, next_of, save_plan};
use crate::copy::copy_database;
use crate::error::StoreError;
use crate::files::{private_file_options, sync};
use crate::model::{Backlog, NewTask, Shard, ShippingRule};
use crate::position::LogPosition;
use crate::schema;

/// The state of a store at one moment. It stays readable while the store changes; meanwhile the write-ahead log grows.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
}

impl Store {
    /// Seals all open tasks.
    pub async fn seal_open_tasks(&self) -> Result<(), StoreError> {
        let job = |connection: &Connection| {
            connection.execute("UPDATE task SET sealed = 1 WHERE status <> 'success' AND NOT sealed", [])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }

    /// Returns the state of the store at this moment. Blocks on disk I/O.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let connection = schema::open_reader(&self.file)?;
        connection.execute_batch("BEGIN")?;
        // A transaction begins with its first read.
        connection.query_row("SELECT count(*) FROM generation", [], |_| Ok(()))?;
        Ok(Snapshot { connection })
    }
}

impl Snapshot {
    /// Measures the logs of a shard that are in no task of a rule, up to about `bytes`. Returns the start of the rule's
    /// next task too. Blocks on disk I/O.
    pub fn unshipped(
        &self,
        rule: &ShippingRule,
        shard: &Shard,
        from: Option<LogPosition>,
        bytes: u64,
    ) -> Result<(LogPosition, Backlog), StoreError> {
        let stored = next_of(&self.connection, rule.id, shard.number)?;
        let next = from.or(stored).unwrap_or_else(|| LogPosition::at(shard.begin()));
        let begin = shard.resolve(next.cursor.max(shard.begin()));
        let rows = (shard.row(begin), shard.rows().1);
        Ok((next, backlog::measure(&self.connection, shard, begin, rows, bytes)?))
    }

    /// Copies the database to a new file, and adds sealed tasks to the copy. Blocks on disk I/O.
    ///
    /// # Errors
    /// When the disk is full, or the file exists.
    pub fn copy_to(&self, path: &Path, tasks: &[(i64, NewTask)], now: u64) -> Result<(), StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        private_file_options().write(true).create_new(true).open(path).map_err(failed)?;
        let mut copy = Connection::open(path)?;
        copy_database(&self.connection, &mut copy)?;
        let transaction = copy.transaction()?;
        for (rule, task) in tasks {
            let plan = save_plan(&transaction, *rule, &task.plan, now)?;
            insert(&transaction, *rule, plan, task, 1, now)?;
            save_next(&transaction, *rule, task.shard, task.end)?;
        }
        transaction.commit()?;
        // One file instead of three.
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error)?;
        sync(path)
    }
}
