//! Checkpoints of the write-ahead log. SQLite's own ones drop their errors, and a failed sync must not go unnoticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// The pages of the write-ahead log that make a checkpoint due.
#[derive(Debug)]
pub(super) struct Wal {
    pages: Arc<AtomicI32>,
    limit: i32,
}

impl Wal {
    /// Takes the checkpoints of a connection over from SQLite. A log of `bytes` bytes makes one due, which bounds the
    /// pause that it causes.
    pub(super) fn new(connection: &mut Connection, bytes: u32) -> Result<Self, rusqlite::Error> {
        let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, limit: (bytes / page.max(1)) as i32 })
    }

    /// Performs a checkpoint if one is due.
    pub(super) fn checkpoint(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        if self.pages.load(Ordering::Relaxed) < self.limit {
            return Ok(());
        }
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Empties the log, so that the next start has none to replay. No data depends on it.
    pub(super) fn truncate(&self, connection: &Connection) {
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "can't truncate the write-ahead log");
        }
    }

    /// Leaves the log as it is when the connection is closed: the next start replays what is intact.
    pub(super) fn keep(&self, connection: &Connection) {
        if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(%error, "can't keep the write-ahead log");
        }
    }
}
