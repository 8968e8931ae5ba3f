//! Measures the backlog of a shard.

use crate::error::StoreError;
use crate::model::{Backlog, Shard};
use crate::store::Store;

impl Store {
    /// Measures the backlog of a shard from a position on, up to about `bytes` before compression. Blocks on disk I/O.
    pub fn backlog(&self, shard: &Shard, from: u64, bytes: u64) -> Result<Backlog, StoreError> {
        let (begin, end) = (from.max(shard.begin()), shard.end());
        let mut backlog = Backlog { next: begin, ..Backlog::default() };
        if begin >= end {
            return Ok(backlog);
        }
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, size, received FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id",
            )?;
            let mut rows = statement.query([shard.row(begin), shard.row(end)])?;
            while backlog.bytes < bytes
                && let Some(row) = rows.next()?
            {
                backlog.next = shard.position(row.get(0)?) + 1;
                backlog.bytes += row.get::<_, u64>(1)?;
                backlog.newest = row.get(2)?;
                if backlog.oldest == 0 {
                    backlog.oldest = backlog.newest;
                }
            }
            Ok(backlog)
        })
    }
}
