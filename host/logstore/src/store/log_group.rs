//! Puts and reads log groups.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::integrity::{Expected, GROUP_COLUMNS, next_group};
use super::{PERMIT_BYTES, QUEUE_BUDGET, Store};
use crate::error::StoreError;
use crate::model::{HashedGroup, Logstore, NewGroup, PutId, Shard, StoredGroup, StoredPut};

/// The limits of [`Store::read`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of groups.
    pub groups: usize,
    /// The bytes, before compression, after which the read stops. It returns at least one group.
    pub bytes: usize,
    /// The end of the range, exclusive.
    pub end: u64,
}

impl Store {
    /// Appends log groups to a shard. Returns the position of the first one after all are on disk.
    pub async fn put(&self, shard: &Arc<Shard>, groups: Vec<NewGroup>) -> Result<u64, StoreError> {
        Ok(self.put_groups(shard, groups, None).await?.position)
    }

    /// Appends log groups to a shard, unless a put with this id stored them in a shard of the logstore within a day.
    pub async fn put_once(
        &self,
        logstore: &Logstore,
        shard: &Arc<Shard>,
        groups: Vec<NewGroup>,
        id: PutId,
    ) -> Result<StoredPut, StoreError> {
        self.put_groups(shard, groups, Some((logstore.id, id))).await
    }

    async fn put_groups(
        &self,
        shard: &Arc<Shard>,
        groups: Vec<NewGroup>,
        id: Option<(i64, PutId)>,
    ) -> Result<StoredPut, StoreError> {
        let bytes: usize = groups.iter().map(|group| group.body.len()).sum();
        let permits = (bytes / PERMIT_BYTES + 1).min(QUEUE_BUDGET / PERMIT_BYTES) as u32;
        let permits = Arc::clone(&self.queue_budget)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| StoreError::Closed)?;
        // Hashed here, as the writer is one thread for all puts.
        let groups = groups.into_iter().map(HashedGroup::new).collect();
        self.writer.put(Arc::clone(shard), groups, id, permits).await
    }

    /// Calls `visit` with the groups of a shard from a position on, until it breaks. Blocks on disk I/O.
    ///
    /// If the group at the position was deleted, the read starts at the oldest group. Returns the next position. Each
    /// group is checked; the read ends in front of a damaged group, and the next one fails.
    ///
    /// # Errors
    /// [`StoreError::NoCursor`] if the position is outside the shard, [`StoreError::Damaged`] if the first group is
    /// damaged or missing.
    pub fn read(
        &self,
        shard: &Shard,
        from: u64,
        limits: Limits,
        mut visit: impl FnMut(StoredGroup<'_>) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        let end = shard.end();
        let begin = shard.begin().min(end);
        shard.check(from)?;
        let (next, end) = (from.max(begin), end.min(limits.end));
        if shard.row(next) >= shard.row(end) {
            return Ok(next.min(limits.end));
        }
        let read =
            self.with_reader(|connection| read_groups(connection, shard, next, end, limits, &mut visit));
        read.map_err(|error| self.report_damage(shard, error))
    }

    /// Returns the bytes of the groups from `begin` to `end`, before compression. Blocks on disk I/O.
    pub fn bytes_between(&self, shard: &Shard, begin: u64, end: u64) -> Result<u64, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection
                .prepare_cached("SELECT coalesce(sum(size), 0) FROM log_group WHERE id >= ?1 AND id < ?2")?;
            Ok(select.query_row([shard.row(begin), shard.row(end)], |row| row.get(0))?)
        })
    }

    /// Returns the time of receipt of the group at `position`, in Unix seconds. Returns the current time for the end of
    /// the shard. Blocks on disk I/O.
    pub fn received_at(&self, shard: &Shard, position: u64) -> Result<u64, StoreError> {
        let (begin, end) = (shard.begin(), shard.end());
        // The SDKs subtract one from a cursor to find the log group before it.
        let next = position.saturating_add(1);
        let is_before_run = next == shard.resolve(position);
        let position = if is_before_run { shard.previous(next).unwrap_or(position) } else { position };
        shard.check(position)?;
        let is_known = position >= shard.segments.origin();
        if is_known && shard.row(position) == shard.row(end) {
            return Ok(self.now());
        }
        if position < begin {
            return Err(StoreError::NoCursor { shard: shard.number, cursor: position, begin, end });
        }
        // Retention may delete the group in the meantime; then its position is before the first.
        let deleted = StoreError::NoCursor { shard: shard.number, cursor: position, begin, end };
        self.with_reader(|connection| received(connection, shard.row(position))?.ok_or(deleted))
    }

    /// Returns the time of the newest log of the group at `position`, in Unix seconds. Blocks on disk I/O.
    pub(super) fn newest_at(&self, shard: &Shard, position: u64) -> Result<Option<u64>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT newest FROM log_group WHERE id = ?1")?;
            Ok(statement.query_row([shard.row(position)], |row| row.get(0)).optional()?)
        })
    }

    /// Returns the position of the first group received at `time` (Unix seconds) or later, or the end of the shard.
    /// Blocks on disk I/O.
    pub fn position_at(&self, shard: &Shard, time: u64) -> Result<u64, StoreError> {
        let end = shard.end();
        if time > shard.last_received() {
            return Ok(end);
        }
        self.with_reader(|connection| {
            // Rows are consecutive, positions are not: another generation of the store begins at a later number.
            let (mut low, mut high) = (shard.row(shard.begin()), shard.row(end));
            while low < high {
                let middle = low + (high - low) / 2;
                // A deleted group is older than all stored groups.
                match received(connection, middle)? {
                    Some(received) if received >= time => high = middle,
                    _ => low = middle + 1,
                }
            }
            Ok(shard.position(low))
        })
    }
}

/// Reads the groups from `next` to `end`. Returns the position after the last group read.
fn read_groups(
    connection: &Connection,
    shard: &Shard,
    mut next: u64,
    end: u64,
    limits: Limits,
    visit: &mut dyn FnMut(StoredGroup<'_>) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {GROUP_COLUMNS} FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3"
    ))?;
    let most = limits.groups.min(i64::MAX as usize);
    let mut rows = statement.query(params![shard.row(next), shard.row(end), most])?;
    let (mut bytes, mut groups, chain_start) = (0, 0, shard.chain().start);
    while bytes < limits.bytes && groups < most {
        let expected = Expected { shard, position: next, end, chain_start };
        let group = match next_group(connection, &mut rows, expected) {
            Ok(Some(group)) => group,
            Ok(None) => break,
            // The next read fails at this group.
            Err(_) if groups > 0 => break,
            Err(error) => return Err(error),
        };
        // The positions of a read are consecutive, as clients count with them.
        if groups > 0 && group.position != next {
            break;
        }
        next = group.position + 1;
        bytes += group.size as usize;
        groups += 1;
        if visit(group).is_break() {
            break;
        }
    }
    Ok(next)
}

fn received(connection: &Connection, row: i64) -> Result<Option<u64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT received FROM log_group WHERE id = ?1")?;
    Ok(statement.query_row([row], |row| row.get(0)).optional()?)
}
