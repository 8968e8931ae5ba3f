//! The chains of shards in the database. `crate::model::chain` describes a chain.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::segments::segments_of;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::model::{Chain, Heads, POSITION_BITS, Segments, Shard};
use crate::position::LogPosition;

/// Reads the chain of a shard. A row with values that logship can't have written counts as missing.
pub(super) fn read(connection: &Connection, shard: i64) -> Result<Option<Chain>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(
        "SELECT start, base, chain.next, head FROM chain JOIN shard ON shard.id = shard
         WHERE shard = ?1 AND start >= origin AND chain.next >= start",
    )?;
    let chain = statement.query_row([shard], |row| {
        let digests = row.get::<_, Digest>(1).and_then(|base| Ok((base, row.get(3)?)));
        let Ok((base, head)) = digests else { return Ok(None) };
        Ok(Some(Chain { start: row.get(0)?, base, end: row.get(2)?, head }))
    });
    Ok(chain.optional()?.flatten())
}

/// Saves the end of the chain of a shard.
pub(super) fn save_end(connection: &Connection, shard: &Shard, chain: &Chain) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO chain (shard, start, base, next, head) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET next = ?4, head = ?5",
        )?
        .execute(params![shard.id, chain.start, chain.base, chain.end, chain.head])?;
    Ok(())
}

/// Moves the start of the chain to `start`, before the log groups in front of it are deleted. Returns the new start and
/// the head before it, or `None` if the chain starts later.
pub(super) fn move_start(
    connection: &Connection,
    shard: &Shard,
    start: u64,
) -> Result<Option<(u64, Digest)>, StoreError> {
    let chain = shard.chain();
    if start <= chain.start {
        return Ok(None);
    }
    // A damaged head stays visible: verification does not accept the old base at the new start.
    let base = head_before(connection, shard.id, &shard.segments, &chain, start)?.unwrap_or(chain.base);
    connection
        .prepare_cached("UPDATE chain SET start = ?2, base = ?3 WHERE shard = ?1")?
        .execute(params![shard.id, start, base])?;
    Ok(Some((start, base)))
}

/// Records the heads before and after the range of a task, if they are known: not of log groups that were stored before
/// checksums, nor of deleted ones.
pub(super) fn save_heads(
    connection: &Connection,
    task: (u64, u64),
    rule: i64,
    shard: u32,
    (begin, end): (LogPosition, LogPosition),
) -> Result<(), StoreError> {
    let heads = heads(connection, rule, shard, begin, end)?;
    connection
        .prepare_cached(
            "UPDATE task SET head_before = ?3, head_after = ?4 WHERE created = ?1 AND number = ?2",
        )?
        .execute(params![task.0, task.1, heads.map(|heads| heads.before), heads.map(|heads| heads.after)])?;
    Ok(())
}

/// Reads the recorded heads of a task, if it has any. A damaged head is none.
pub(super) fn read_heads(row: &Row<'_>, before: usize, after: usize) -> Option<Heads> {
    let head = |column| row.get::<_, Option<Digest>>(column).ok().flatten();
    head(before).zip(head(after)).map(|(before, after)| Heads { before, after })
}

/// Returns the heads of a range of a rule's shard, if they are known.
fn heads(
    connection: &Connection,
    rule: i64,
    shard: u32,
    begin: LogPosition,
    end: LogPosition,
) -> Result<Option<Heads>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT shard.id, origin FROM shard JOIN rule ON rule.logstore = shard.logstore
             WHERE rule.id = ?1 AND shard.number = ?2",
        )?
        .query_row(params![rule, shard], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((id, origin)) = found else { return Ok(None) };
    let Some(chain) = read(connection, id)? else { return Ok(None) };
    let segments = segments_of(connection, id, origin)?;
    let before = head_before(connection, id, &segments, &chain, begin.cursor)?;
    let after = head_before(connection, id, &segments, &chain, end.end_cursor())?;
    Ok(before.zip(after).map(|(before, after)| Heads { before, after }))
}

/// Returns the head before the log group at `position`, if it is known.
pub(super) fn head_before(
    connection: &Connection,
    shard: i64,
    segments: &Segments,
    chain: &Chain,
    position: u64,
) -> Result<Option<Digest>, StoreError> {
    let (start, end) = (segments.groups_before(chain.start), segments.groups_before(chain.end));
    let before = segments.groups_before(position);
    let is_known = position >= segments.origin() && segments.gap(position).is_none();
    if !is_known || before < start || before > end {
        return Ok(None);
    }
    if before == start {
        return Ok(Some(chain.base));
    }
    let row = (shard << POSITION_BITS) + before as i64 - 1;
    let mut statement = connection.prepare_cached("SELECT head FROM log_group WHERE id = ?1")?;
    let head = statement.query_row([row], |row| row.get(0)).optional()?;
    Ok(head.flatten())
}
