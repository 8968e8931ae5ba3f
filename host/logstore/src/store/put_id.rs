//! Remembers the ids of puts for a day, so that a repeated put stores nothing.
//!
//! An id is stored in the transaction of its log groups. An access key keeps a limited number of ids: beyond it, its
//! least recently used client is dropped. So a key with too many ids affects only itself.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::model::PutId;

/// The time for which an id is kept, in seconds.
const KEEP_SECONDS: u64 = 86_400;

/// The maximum number of ids of a client. Beyond it, the smallest sequence is dropped.
const CLIENT_IDS: u64 = 10_000;

/// The limits of a step that deletes expired ids.
const STEP_CLIENTS: usize = 256;
const STEP_IDS: u64 = 4096;

/// The time between steps that leave nothing to delete, in seconds.
const STEP_INTERVAL: u64 = 10;

/// The ids of recent puts.
#[derive(Debug)]
pub(super) struct PutIds {
    /// The maximum number of ids of an access key.
    limit: u64,
    /// The number of ids of each access key. Read from the database when needed.
    counts: Option<HashMap<String, u64>>,
    /// The time of the next step, in Unix seconds.
    next_step: u64,
    /// The time by which ids expire, in Unix seconds. Without it, none does.
    expiry: Option<u64>,
}

/// A client in the database.
struct Client {
    row: i64,
    ids: u64,
    dropped: i64,
}

impl PutIds {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, counts: None, next_step: 0, expiry: None }
    }

    /// Sets the time by which ids expire, in Unix microseconds.
    pub(super) fn set_expiry(&mut self, time: Option<u64>) {
        self.expiry = time.map(|time| time / 1_000_000);
    }

    /// Returns the position of the first log group if the put is stored already.
    ///
    /// # Errors
    /// [`StoreError::PutIdConflict`] if another put had the id, [`StoreError::PutIdTooOld`] if its id was dropped.
    pub(super) fn find(
        &self,
        connection: &Connection,
        logstore: i64,
        put: &PutId,
    ) -> Result<Option<u64>, StoreError> {
        let Some(client) = find_client(connection, logstore, put)? else { return Ok(None) };
        let mut select = connection.prepare_cached(
            "SELECT digest, position, stored FROM put_id WHERE client = ?1 AND sequence = ?2",
        )?;
        let found = select.query_row(params![client.row, put.sequence], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get::<_, u64>(2)?))
        });
        let (name, sequence) = (put.client.clone(), put.sequence);
        match found.optional()? {
            Some((.., stored)) if self.expiry.is_some_and(|now| stored + KEEP_SECONDS <= now) => Ok(None),
            Some((digest, position, _)) if digest == put.digest => Ok(Some(position)),
            Some(_) => Err(StoreError::PutIdConflict { client: name, sequence }),
            None if sequence <= client.dropped => Err(StoreError::PutIdTooOld { client: name, sequence }),
            None => Ok(None),
        }
    }

    /// Records a put that is stored in the same transaction.
    pub(super) fn record(
        &mut self,
        connection: &Connection,
        logstore: i64,
        put: &PutId,
        position: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        let client = match find_client(connection, logstore, put)? {
            Some(client) => client,
            None => insert_client(connection, logstore, put, now)?,
        };
        // Replaces an expired id.
        let replaced = connection
            .prepare_cached("DELETE FROM put_id WHERE client = ?1 AND sequence = ?2")?
            .execute(params![client.row, put.sequence])?;
        connection
            .prepare_cached(
                "INSERT INTO put_id (client, sequence, digest, position, stored) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![client.row, put.sequence, put.digest, position, now])?;
        let is_full = client.ids >= CLIENT_IDS.min(self.limit) && replaced == 0;
        let dropped = if is_full { drop_smallest(connection, client.row)? } else { client.dropped };
        let ids = if is_full || replaced > 0 { client.ids } else { client.ids + 1 };
        connection
            .prepare_cached(
                "UPDATE put_client SET ids = ?2, dropped = max(dropped, ?3), used = ?4 WHERE id = ?1",
            )?
            .execute(params![client.row, ids, dropped, now])?;
        let limit = self.limit;
        let count = self.counts(connection)?.entry(put.key.clone()).or_default();
        *count += ids - client.ids;
        if *count > limit {
            *count -= drop_client(connection, &put.key, u64::MAX >> 1, client.row)?;
        }
        Ok(())
    }

    /// Deletes some expired ids in the open transaction.
    pub(super) fn step(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let Some(now) = self.expiry else { return Ok(()) };
        if now < self.next_step && self.next_step - now <= STEP_INTERVAL {
            return Ok(());
        }
        let (mut clients, mut ids) = (0, 0);
        let counts = self.counts(connection)?;
        for (key, count) in counts.iter_mut() {
            while clients < STEP_CLIENTS && ids < STEP_IDS {
                let dropped = drop_client(connection, key, now.saturating_sub(KEEP_SECONDS), 0)?;
                if dropped == 0 {
                    break;
                }
                *count = count.saturating_sub(dropped);
                (clients, ids) = (clients + 1, ids + dropped);
            }
        }
        counts.retain(|_, count| *count > 0);
        let has_more = clients == STEP_CLIENTS || ids >= STEP_IDS;
        self.next_step = if has_more { now } else { now + STEP_INTERVAL };
        Ok(())
    }

    /// Performs a step in its own transaction.
    pub(super) fn idle(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let transaction = connection.unchecked_transaction()?;
        let result = self.step(&transaction).and_then(|()| Ok(transaction.commit()?));
        if result.is_err() {
            self.discard();
        }
        result
    }

    /// Discards the counts after a rollback.
    pub(super) fn discard(&mut self) {
        self.counts = None;
    }

    fn counts(&mut self, connection: &Connection) -> Result<&mut HashMap<String, u64>, StoreError> {
        let counts = match self.counts.take() {
            Some(counts) => counts,
            None => read_counts(connection)?,
        };
        Ok(self.counts.insert(counts))
    }
}

fn read_counts(connection: &Connection) -> Result<HashMap<String, u64>, StoreError> {
    let mut select = connection.prepare_cached("SELECT key, sum(ids) FROM put_client GROUP BY key")?;
    let counts = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

fn find_client(connection: &Connection, logstore: i64, put: &PutId) -> Result<Option<Client>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, ids, dropped FROM put_client WHERE key = ?1 AND logstore = ?2 AND name = ?3",
    )?;
    let client = select.query_row(params![put.key, logstore, put.client], |row| {
        Ok(Client { row: row.get(0)?, ids: row.get(1)?, dropped: row.get(2)? })
    });
    Ok(client.optional()?)
}

fn insert_client(
    connection: &Connection,
    logstore: i64,
    put: &PutId,
    now: u64,
) -> Result<Client, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO put_client (key, logstore, name, ids, dropped, used) VALUES (?1, ?2, ?3, 0, -1, ?4)",
        )?
        .execute(params![put.key, logstore, put.client, now])?;
    Ok(Client { row: connection.last_insert_rowid(), ids: 0, dropped: -1 })
}

/// Drops the smallest sequence of a client, and returns it.
fn drop_smallest(connection: &Connection, client: i64) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT min(sequence) FROM put_id WHERE client = ?1")?;
    let smallest = select.query_row([client], |row| row.get(0))?;
    connection
        .prepare_cached("DELETE FROM put_id WHERE client = ?1 AND sequence = ?2")?
        .execute(params![client, smallest])?;
    Ok(smallest)
}

/// Drops the least recently used client of a key, except for `keep`, if its last put is not after `until`. Returns the
/// number of its ids.
fn drop_client(connection: &Connection, key: &str, until: u64, keep: i64) -> Result<u64, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id FROM put_client WHERE key = ?1 AND used <= ?2 AND id <> ?3 ORDER BY used LIMIT 1",
    )?;
    let oldest: Option<i64> = select.query_row(params![key, until, keep], |row| row.get(0)).optional()?;
    let Some(oldest) = oldest else { return Ok(0) };
    let ids = connection.prepare_cached("DELETE FROM put_id WHERE client = ?1")?.execute([oldest])?;
    connection.prepare_cached("DELETE FROM put_client WHERE id = ?1")?.execute([oldest])?;
    Ok(ids as u64)
}
