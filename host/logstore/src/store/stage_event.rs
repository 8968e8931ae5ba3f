//! The history of stage aliases.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use crate::error::StoreError;
use crate::model::{StageAction, StageEvent};

/// The number of events kept for each alias.
const MAX_EVENTS: u32 = 200;

const EVENT: &str = "id, action, version, digest, at, who, before";

impl Store {
    /// Returns the latest `count` events of an alias, the newest first. Blocks on disk I/O.
    pub fn stage_events(&self, name: &str, count: usize) -> Result<Vec<StageEvent>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {EVENT} FROM stage_event WHERE name = ?1 ORDER BY id DESC LIMIT ?2"
            ))?;
            let events = select.query_map(params![name, count as i64], read_event)?;
            Ok(events.collect::<Result<_, _>>()?)
        })
    }

    /// Returns an event, unless it was deleted from the history. Blocks on disk I/O.
    pub fn stage_event(&self, id: i64) -> Result<Option<StageEvent>, StoreError> {
        self.with_reader(|connection| find_event(connection, id))
    }

    /// Returns true if the latest event of a component under this name is its removal. Blocks on disk I/O.
    pub fn is_stage_removed(&self, name: &str, digest: &str) -> Result<bool, StoreError> {
        self.with_reader(|connection| {
            // A removal without a digest removed the alias.
            let mut select = connection.prepare_cached(
                "SELECT action FROM stage_event WHERE name = ?1 AND (digest = ?2 OR (digest IS NULL AND action = 'remove'))
                 ORDER BY id DESC LIMIT 1",
            )?;
            let last: Option<String> = select.query_row([name, digest], |row| row.get(0)).optional()?;
            Ok(last.as_deref() == Some(StageAction::Remove.as_str()))
        })
    }
}

/// Returns the revision of the aliases.
pub(super) fn revision(connection: &Connection) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(max(id), 0) FROM stage_event")?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// Returns an event, unless it was deleted from the history.
pub(super) fn find_event(connection: &Connection, id: i64) -> Result<Option<StageEvent>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT {EVENT} FROM stage_event WHERE id = ?1"))?;
    Ok(select.query_row([id], read_event).optional()?)
}

/// Records an event and deletes the oldest ones.
pub(super) fn record_event(
    connection: &Connection,
    name: &str,
    action: StageAction,
    digest: Option<&str>,
    previous: Option<i64>,
    by: &str,
    now: u64,
) -> Result<i64, StoreError> {
    let version: Option<String> = connection
        .query_row(
            "SELECT version FROM stage_version WHERE stage = ?1 AND digest = ?2",
            params![name, digest],
            |row| row.get(0),
        )
        .optional()?;
    connection.execute(
        "INSERT INTO stage_event (name, action, version, digest, at, who, before) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![name, action.as_str(), version.unwrap_or_default(), digest, now, by, previous],
    )?;
    let id = connection.last_insert_rowid();
    connection.execute(
        "DELETE FROM stage_event WHERE name = ?1 AND id < (SELECT id FROM stage_event WHERE name = ?1
             ORDER BY id DESC LIMIT 1 OFFSET ?2) AND id NOT IN (SELECT current FROM stage WHERE current IS NOT NULL)",
        params![name, MAX_EVENTS],
    )?;
    Ok(id)
}

fn read_event(row: &Row<'_>) -> Result<StageEvent, rusqlite::Error> {
    Ok(StageEvent {
        id: row.get(0)?,
        action: row.get(1)?,
        version: row.get(2)?,
        digest: row.get(3)?,
        at: row.get(4)?,
        by: row.get(5)?,
        previous: row.get(6)?,
    })
}
