//! What there is of a shard that tasks can be made of.

use crate::catalog::Shard;
use crate::error::StoreError;
use crate::store::Store;

/// What there is of a shard behind a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// The position behind what was measured.
    pub next: u64,
    /// Its bytes before compression.
    pub bytes: u64,
    /// When the first of it was received, in Unix seconds; 0 if there is nothing.
    pub oldest: u64,
    /// When the last of it was received.
    pub newest: u64,
}

impl Store {
    /// What there is of a shard from a position on, up to about `bytes` before compression. Blocks on the disk.
    pub fn measure(&self, shard: &Shard, from: u64, bytes: u64) -> Result<Measured, StoreError> {
        let (begin, end) = (from.max(shard.begin()), shard.end());
        let mut measured = Measured { next: begin, ..Measured::default() };
        if begin >= end {
            return Ok(measured);
        }
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, size, received FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id",
            )?;
            let mut rows = statement.query([shard.row(begin), shard.row(end)])?;
            while measured.bytes < bytes
                && let Some(row) = rows.next()?
            {
                measured.next = shard.position(row.get(0)?) + 1;
                measured.bytes += row.get::<_, u64>(1)?;
                measured.newest = row.get(2)?;
                if measured.oldest == 0 {
                    measured.oldest = measured.newest;
                }
            }
            Ok(measured)
        })
    }
}
