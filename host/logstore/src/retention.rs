//! Deleting what is too old: in steps so small that no put waits for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};

use crate::catalog::{Catalog, Shard};
use crate::error::StoreError;

/// A step deletes no more log groups than this many, and none after this many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    groups: usize,
    bytes: u64,
}

impl Step {
    /// The least of a step.
    pub(crate) const SMALL: Self = Self { groups: 512, bytes: 2 << 20 };

    /// One that keeps up with a commit that stored so much.
    pub(crate) fn beside(groups: usize, bytes: usize) -> Self {
        let least = Self::SMALL;
        Self { groups: least.groups.max(2 * groups), bytes: least.bytes.max(2 * bytes as u64) }
    }
}

/// How often shards are looked at, in microseconds.
const INTERVAL: u64 = 10_000_000;

/// A logstore with as many days keeps its logs for ever.
pub const FOREVER: u32 = 3650;

/// Pages given back to the file system in a step, once a quarter of the file is free.
const VACUUM_PAGES: u32 = 64;

/// What is to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// When shards were looked at last, in Unix microseconds.
    looked: u64,
    /// Shards that may have old logs, each a step at a time in turn.
    expired: VecDeque<Arc<Shard>>,
    /// What the last step deleted, before it is committed.
    deleted: Option<(Arc<Shard>, u64)>,
    /// Whether it removed a shard.
    removed: bool,
}

impl Retention {
    /// Deletes one step's worth, in the transaction that is open.
    pub(crate) fn step(
        &mut self,
        connection: &Connection,
        catalog: &Catalog,
        now: u64,
        step: Step,
    ) -> Result<(), StoreError> {
        self.look(connection, catalog, now)?;
        let Some(shard) = self.expired.pop_front() else { return Ok(()) };
        // By the catalog of now: its logstore may keep logs for longer than when the shard was looked at.
        let Some(before) = keep_since(catalog, &shard, now) else { return Ok(()) };
        let mut select = connection.prepare_cached(
            "SELECT id, length(body) FROM log_group WHERE id >= ?1 AND id < ?2 AND received < ?3 ORDER BY id LIMIT ?4",
        )?;
        let (first, end) = (shard.row(shard.begin()), shard.row(shard.end()));
        let mut rows = select.query(params![first, end, before, step.groups])?;
        let (mut last, mut bytes) = (None, 0);
        while bytes < step.bytes
            && let Some(row) = rows.next()?
        {
            last = Some(row.get::<_, i64>(0)?);
            bytes += row.get::<_, u64>(1)?;
        }
        drop(rows);
        let Some(last) = last else { return self.remove(connection, &shard) };
        let begin = shard.position(last) + 1;
        connection
            .prepare_cached("DELETE FROM log_group WHERE id >= ?1 AND id <= ?2")?
            .execute(params![first, last])?;
        connection
            .prepare_cached("UPDATE shard SET next = max(next, ?2) WHERE id = ?1")?
            .execute(params![shard.id, begin])?;
        // Others have their turn before it comes again.
        self.expired.push_back(Arc::clone(&shard));
        self.deleted = Some((shard, begin));
        Ok(())
    }

    /// Whether there is more to delete.
    pub(crate) fn has_work(&self) -> bool {
        !self.expired.is_empty()
    }

    /// Steps of its own while nobody writes: one of deleting, one of giving room back. Whether the catalog changed.
    pub(crate) fn idle(
        &mut self,
        connection: &Connection,
        catalog: &Catalog,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.look(connection, catalog, now)?;
        if !self.expired.is_empty() {
            let transaction = connection.unchecked_transaction()?;
            if let Err(error) = self.step(&transaction, catalog, now, Step::SMALL) {
                self.forget();
                return Err(error);
            }
            if let Err(error) = transaction.commit() {
                self.forget();
                return Err(error.into());
            }
            return Ok(self.publish());
        }
        give_room_back(connection)?;
        Ok(false)
    }

    /// Shows what the step that is committed now deleted. Whether the catalog changed.
    pub(crate) fn publish(&mut self) -> bool {
        if let Some((shard, begin)) = self.deleted.take() {
            shard.live.begin.store(begin, Ordering::Release);
        }
        std::mem::take(&mut self.removed)
    }

    /// The step was not committed.
    pub(crate) fn forget(&mut self) {
        self.deleted = None;
        self.removed = false;
    }

    fn look(&mut self, connection: &Connection, catalog: &Catalog, now: u64) -> Result<(), StoreError> {
        if !self.expired.is_empty() || now.abs_diff(self.looked) < INTERVAL {
            return Ok(());
        }
        self.looked = now;
        let mut oldest = connection.prepare_cached("SELECT received FROM log_group WHERE id = ?1")?;
        for shard in catalog.shards() {
            let Some(before) = keep_since(catalog, shard, now) else { continue };
            let received = oldest.query_row([shard.row(shard.begin())], |row| row.get::<_, u64>(0));
            if received.is_ok_and(|received| received < before) || before == ALL {
                self.expired.push_back(Arc::clone(shard));
            }
        }
        Ok(())
    }

    /// Removes a shard after its last log, if it gets no more: its logstore is gone, or it was split or merged.
    fn remove(&mut self, connection: &Connection, shard: &Shard) -> Result<(), StoreError> {
        // The table is asked, for this transaction may have put something that is not shown yet.
        let mut delete = connection.prepare_cached(
            "DELETE FROM shard WHERE id = ?1 AND (logstore IS NULL OR NOT writable)
             AND NOT EXISTS (SELECT 1 FROM log_group WHERE id >= ?2 AND id < ?3)",
        )?;
        let (first, end) = shard.rows();
        self.removed |= delete.execute(params![shard.id, first, end])? > 0;
        Ok(())
    }
}

/// Every log is received before this.
const ALL: u64 = u64::MAX >> 1;

/// Logs of the shard that were received before this can go, in Unix seconds; none if all are kept.
fn keep_since(catalog: &Catalog, shard: &Shard, now: u64) -> Option<u64> {
    let mut logstores = catalog.logstores();
    let logstore = logstores.find(|logstore| logstore.shards.iter().any(|other| other.id == shard.id));
    match logstore {
        None => Some(ALL),
        Some(logstore) if logstore.ttl >= FOREVER => None,
        Some(logstore) => Some((now / 1_000_000).saturating_sub(u64::from(logstore.ttl) * 86_400)),
    }
}

fn give_room_back(connection: &Connection) -> Result<(), StoreError> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    if pages("freelist_count")? > pages("page_count")? / 4 {
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        // It gives back a page for each row that is asked for.
        while rows.next()?.is_some() {}
    }
    Ok(())
}
