//! The ends of shards, as the database has them at the start.

use rusqlite::Connection;

use super::chain;
use super::segments::{read_segments, segments_from};
use crate::error::StoreError;
use crate::model::{Generation, POSITION_BITS, Segments};

/// A shard in the database.
pub(super) struct ShardEnd {
    pub(super) id: i64,
    pub(super) logstore: Option<i64>,
    pub(super) number: u32,
    pub(super) origin: u64,
    pub(super) segments: Segments,
    /// The number of log groups ever stored.
    pub(super) groups: u64,
}

impl ShardEnd {
    /// Returns the number of log groups that were stored before a generation, the latest one.
    pub(super) fn groups_before(&self, generation: &Generation) -> u64 {
        if self.origin >= generation.began { 0 } else { self.segments.last_begin().unwrap_or(self.groups) }
    }
}

/// Returns the shards that fulfil an SQL condition.
pub(super) fn shard_ends(connection: &Connection, condition: &str) -> Result<Vec<ShardEnd>, StoreError> {
    let mut later = read_segments(connection)?;
    let mut select = connection.prepare(&format!(
        "SELECT id, logstore, number, origin, next FROM shard WHERE {condition} ORDER BY id"
    ))?;
    let mut last = connection.prepare_cached("SELECT max(id) FROM log_group WHERE id >= ?1 AND id < ?2")?;
    let mut rows = select.query([])?;
    let mut shards = vec![];
    while let Some(row) = rows.next()? {
        let (id, origin, next): (i64, u64, u64) = (row.get(0)?, row.get(3)?, row.get(4)?);
        let segments = segments_from(origin, later.remove(&id));
        let first = id << POSITION_BITS;
        let newest: Option<i64> = last.query_row([first, first + (1 << POSITION_BITS)], |row| row.get(0))?;
        let stored = newest.map_or(0, |row| (row - first) as u64 + 1);
        // The chain knows of log groups that were removed from outside: these are damage, and no other life.
        let chain = chain::read(connection, id)?.map_or(0, |chain| chain.groups(&segments));
        let groups = stored.max(segments.groups_before(next)).max(chain);
        shards.push(ShardEnd { id, logstore: row.get(1)?, number: row.get(2)?, origin, segments, groups });
    }
    Ok(shards)
}
