//! Measures the backlog of a shard.

use rusqlite::Connection;

use crate::error::StoreError;
use crate::model::{Backlog, Shard};
use crate::store::Store;

impl Store {
    /// Measures the backlog of a shard from a position on, up to about `bytes` before compression. Blocks on disk I/O.
    pub fn backlog(&self, shard: &Shard, from: u64, bytes: u64) -> Result<Backlog, StoreError> {
        let begin = shard.resolve(from.max(shard.begin()));
        let (first, end) = (shard.row(begin), shard.row(shard.end()));
        if first >= end {
            return Ok(Backlog { next: begin, ..Backlog::default() });
        }
        self.with_reader(|connection| measure(connection, shard, begin, (first, end), bytes))
    }
}

/// Measures the log groups in a range of rows. `begin` is the position of the first one.
pub(in crate::store) fn measure(
    connection: &Connection,
    shard: &Shard,
    begin: u64,
    (first, end): (i64, i64),
    bytes: u64,
) -> Result<Backlog, StoreError> {
    let mut backlog = Backlog { next: begin, ..Backlog::default() };
    let mut statement = connection
        .prepare_cached("SELECT id, size, received FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let mut rows = statement.query([first, end])?;
    while backlog.bytes < bytes
        && let Some(row) = rows.next()?
    {
        let position = shard.position(row.get(0)?);
        // A range of a task has consecutive positions.
        if backlog.bytes > 0 && position != backlog.next {
            break;
        }
        backlog.next = position + 1;
        backlog.bytes += row.get::<_, u64>(1)?;
        backlog.newest = row.get(2)?;
        if backlog.oldest == 0 {
            backlog.oldest = backlog.newest;
        }
    }
    Ok(backlog)
}
