//! Stage aliases: their versions, the version that each points to, and the history of changes.
//!
//! The database refers to components by digest. Callers store the components themselves, and do so before they add a
//! version.

use std::collections::BTreeMap;
use std::fmt;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::StoreError;
use crate::store::Store;
use crate::task::Status;

/// A snapshot of all stage aliases.
#[derive(Debug, Default)]
pub struct StageAliases {
    /// The revision: it grows with every change.
    pub revision: i64,
    /// The aliases by name. Other names refer to built-in stages.
    pub aliases: BTreeMap<String, StageAlias>,
}

/// An alias that points to one of several versions of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageAlias {
    /// The kind of the stage. The store does not interpret it.
    pub kind: String,
    /// True if the alias is pinned to its current version.
    pub pinned: bool,
    /// The event that set the current version. `None` means the built-in stage.
    pub current: Option<StageEvent>,
    /// The versions, the oldest first.
    pub versions: Vec<StageVersion>,
}

/// A version of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageVersion {
    /// The name of the version.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The size of the component, in bytes.
    pub size: u64,
    /// The origin: a file or a registry.
    pub source: String,
    /// The user who added it.
    pub by: String,
    /// The time of the addition, in Unix microseconds.
    pub added: u64,
}

/// A kind of change of an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageAction {
    /// Adds a version.
    Add,
    /// Points the alias at another version.
    Swap,
    /// Points the alias back at its previous version.
    Rollback,
    /// Pins the alias to its current version.
    Pin,
    /// Unpins the alias.
    Unpin,
    /// Removes a version or the alias.
    Remove,
}

impl StageAction {
    /// Returns the stored form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Swap => "swap",
            Self::Rollback => "rollback",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for StageAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A recorded change of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEvent {
    /// The id. Ids increase over the events of all aliases.
    pub id: i64,
    /// The [`StageAction`], in its stored form.
    pub action: String,
    /// The version concerned; empty for the built-in stage.
    pub version: String,
    /// The digest of the version; `None` for the built-in stage.
    pub digest: Option<String>,
    /// The time, in Unix microseconds.
    pub at: u64,
    /// The user who made the change.
    pub by: String,
    /// The event that set the previous version; `None` for the built-in stage.
    pub previous: Option<i64>,
}

/// A version to add.
#[derive(Debug, Clone)]
pub struct NewStageVersion {
    /// The name of the version. If another component has it already, a part of the digest is appended.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The size of the component, in bytes.
    pub size: u64,
    /// The origin: a file or a registry.
    pub source: String,
}

/// A new target of an alias.
#[derive(Debug, Clone)]
pub struct StageTarget {
    /// The digest of the version; `None` means the built-in stage.
    pub digest: Option<String>,
    /// The event of the version that a rollback restores.
    pub previous: Option<i64>,
    /// The digest of the replaced stage, also of a built-in one. Tasks that failed in it are retried.
    pub replaced: Option<String>,
}

/// A change of an alias. `None` leaves a property as it is.
#[derive(Debug, Clone)]
pub struct StageChange {
    /// The name of the alias.
    pub name: String,
    /// The kind of change.
    pub action: StageAction,
    /// The kind of stage, for a new alias.
    pub kind: String,
    /// The user who makes the change.
    pub by: String,
    /// The expected current event. If it differs, the change fails.
    pub expected: Option<i64>,
    /// A version to add.
    pub version: Option<NewStageVersion>,
    /// The new target.
    pub target: Option<StageTarget>,
    /// True to pin the alias, false to unpin it.
    pub pinned: Option<bool>,
}

impl StageAliases {
    /// Returns the digest that an alias points to. Returns `None` for a built-in stage or an unknown name.
    pub fn current(&self, name: &str) -> Option<&str> {
        self.aliases.get(name)?.digest()
    }
}

impl StageAlias {
    /// Returns the digest that the alias points to. Returns `None` for the built-in stage.
    pub fn digest(&self) -> Option<&str> {
        self.current.as_ref()?.digest.as_deref()
    }

    /// Returns a version by its name or digest.
    pub fn version(&self, version_or_digest: &str) -> Option<&StageVersion> {
        self.versions
            .iter()
            .find(|known| known.version == version_or_digest || known.digest == version_or_digest)
    }
}

impl Store {
    /// Changes an alias, in one transaction. Tasks without a manifest that failed in the replaced component are retried
    /// at once. Returns the name of the added version, if any.
    ///
    /// # Errors
    /// [`StoreError::StageChanged`] if the current event is not the expected one.
    pub async fn change_stage(&self, change: StageChange) -> Result<Option<String>, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let StageChange { name, action, kind, by, expected, version, target, pinned } = change;
            let known = connection
                .query_row("SELECT current FROM stage WHERE name = ?1", [&name], |row| row.get(0))
                .optional()?;
            let current: Option<i64> = known.flatten();
            if current != expected {
                return Err(StoreError::StageChanged(name));
            }
            if known.is_none() {
                connection
                    .execute("INSERT INTO stage (name, kind, pinned) VALUES (?1, ?2, 0)", [&name, &kind])?;
            }
            let added =
                version.map(|version| add_version(connection, &name, version, &by, now)).transpose()?;
            let digest = match &target {
                Some(target) => target.digest.clone(),
                None => match &added {
                    Some(added) => Some(added.1.clone()),
                    None => current
                        .map(|id| find_event(connection, id))
                        .transpose()?
                        .flatten()
                        .and_then(|event| event.digest),
                },
            };
            let previous = target.as_ref().and_then(|target| target.previous);
            let id = record_event(connection, &name, action, digest.as_deref(), previous, &by, now)?;
            if let Some(target) = target {
                connection.execute("UPDATE stage SET current = ?2 WHERE name = ?1", params![name, id])?;
                retry_failed(connection, target.replaced, now)?;
            }
            if let Some(pinned) = pinned {
                connection.execute("UPDATE stage SET pinned = ?2 WHERE name = ?1", params![name, pinned])?;
            }
            Ok(added.map(|(version, _)| version))
        };
        self.writer.run(true, job).await
    }

    /// Removes a version of an alias, or the alias if `digest` is `None`. Without the alias, the name refers to the
    /// built-in stage, if there is one, and tasks that failed in the removed component are retried.
    ///
    /// # Errors
    /// [`StoreError::NoStage`] if the alias does not exist, [`StoreError::StageChanged`] if its current event is not
    /// the expected one.
    pub async fn remove_stage(
        &self,
        name: &str,
        digest: Option<&str>,
        expected: Option<i64>,
        by: &str,
    ) -> Result<(), StoreError> {
        let (name, by, now) = (name.to_owned(), by.to_owned(), (self.options.clock)());
        let digest = digest.map(str::to_owned);
        let job = move |connection: &Connection| {
            let current: Option<Option<i64>> = connection
                .query_row("SELECT current FROM stage WHERE name = ?1", [&name], |row| row.get(0))
                .optional()?;
            let Some(current) = current else { return Err(StoreError::NoStage(name)) };
            if current != expected {
                return Err(StoreError::StageChanged(name));
            }
            record_event(connection, &name, StageAction::Remove, digest.as_deref(), None, &by, now)?;
            match digest {
                Some(digest) => {
                    connection.execute(
                        "DELETE FROM stage_version WHERE stage = ?1 AND digest = ?2",
                        params![name, digest],
                    )?;
                }
                None => {
                    let replaced = current.map(|id| find_event(connection, id)).transpose()?.flatten();
                    connection.execute("DELETE FROM stage WHERE name = ?1", [&name])?;
                    retry_failed(connection, replaced.and_then(|event| event.digest), now)?;
                }
            }
            Ok(())
        };
        self.writer.run(true, job).await
    }

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

/// The number of events kept for each alias.
const MAX_EVENTS: u32 = 200;

const EVENT: &str = "id, action, version, digest, at, who, before";

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

fn find_event(connection: &Connection, id: i64) -> Result<Option<StageEvent>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT {EVENT} FROM stage_event WHERE id = ?1"))?;
    Ok(select.query_row([id], read_event).optional()?)
}

/// Adds a version, unless its component has one already. Returns the name of the version and its digest.
fn add_version(
    connection: &Connection,
    name: &str,
    new: NewStageVersion,
    by: &str,
    now: u64,
) -> Result<(String, String), StoreError> {
    let NewStageVersion { version, digest, size, source } = new;
    let known: Option<String> = connection
        .query_row(
            "SELECT version FROM stage_version WHERE stage = ?1 AND digest = ?2",
            [name, &digest],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(known) = known {
        return Ok((known, digest));
    }
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM stage_version WHERE stage = ?1 AND version = ?2")?
        .exists([name, &version])?;
    let suffix = digest.get(..8).unwrap_or(&digest);
    let version = if is_taken { format!("{version}+{suffix}") } else { version };
    connection.execute(
        "INSERT INTO stage_version (stage, version, digest, size, source, who, added) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![name, version, digest, size, source, by, now],
    )?;
    Ok((version, digest))
}

/// Records an event and deletes the oldest ones.
fn record_event(
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

/// Retries tasks without a manifest that failed in a replaced component: they now use another one.
fn retry_failed(connection: &Connection, replaced: Option<String>, now: u64) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE task SET next_try = ?1 WHERE status = ?2 AND stage = ?3 AND sha256 IS NULL
             AND rule IN (SELECT id FROM rule WHERE deleted IS NULL)",
        params![now, Status::Failed.as_str(), replaced],
    )?;
    Ok(())
}

/// Reads all aliases.
pub(crate) fn read_stages(connection: &Connection) -> Result<StageAliases, StoreError> {
    let revision = revision(connection)?;
    let mut versions: BTreeMap<String, Vec<StageVersion>> = BTreeMap::new();
    let mut select = connection.prepare_cached(
        "SELECT stage, version, digest, size, source, who, added FROM stage_version ORDER BY id",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        versions.entry(row.get(0)?).or_default().push(StageVersion {
            version: row.get(1)?,
            digest: row.get(2)?,
            size: row.get(3)?,
            source: row.get(4)?,
            by: row.get(5)?,
            added: row.get(6)?,
        });
    }
    let mut aliases = BTreeMap::new();
    let mut select = connection.prepare_cached("SELECT name, kind, pinned, current FROM stage")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (name, current): (String, Option<i64>) = (row.get(0)?, row.get(3)?);
        let current = current.map(|id| find_event(connection, id)).transpose()?.flatten();
        let versions = versions.remove(&name).unwrap_or_default();
        aliases.insert(name, StageAlias { kind: row.get(1)?, pinned: row.get(2)?, current, versions });
    }
    Ok(StageAliases { revision, aliases })
}

/// Returns the revision of the aliases.
pub(crate) fn revision(connection: &Connection) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(max(id), 0) FROM stage_event")?;
    Ok(select.query_row([], |row| row.get(0))?)
}
