//! Names of stages: the versions that each has, which of them it stands for, and what it stood for before.
//!
//! A component itself is no row: it is known by its digest, and who keeps it is for others to say. It has to be on
//! disk before it stands here.

use std::collections::BTreeMap;
use std::fmt;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::StoreError;
use crate::store::Store;
use crate::task::Status;

/// All names, as they are at one moment.
#[derive(Debug, Default)]
pub struct StageNames {
    /// Grows with every change.
    pub revision: i64,
    /// By name. One that is not here is that of the stage that comes with the program, if there is one.
    pub names: BTreeMap<String, StageName>,
}

/// A name that stands for one of several versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageName {
    /// What kind of stage it is; what that means is for others to say.
    pub kind: String,
    /// Whether it stays what it is.
    pub pinned: bool,
    /// What made it stand for what it does; none as long as that is the stage that comes with the program.
    pub current: Option<StageEvent>,
    /// Its versions, the oldest first.
    pub versions: Vec<StageVersion>,
}

/// A version of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageVersion {
    /// What it is called.
    pub version: String,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// Where it is from: a file, a registry.
    pub source: String,
    /// Who added it.
    pub by: String,
    /// When, in Unix microseconds.
    pub added: u64,
}

/// What can be done to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageAction {
    /// It has one version more.
    Add,
    /// It stands for another version.
    Swap,
    /// It stands for what it stood for before.
    Rollback,
    /// It stays what it is.
    Pin,
    /// It can be changed again.
    Unpin,
    /// It has one version less, or is no more.
    Remove,
}

impl StageAction {
    /// As it is stored.
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

/// Something that was done to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEvent {
    /// Its number: later ones have greater numbers, of all names.
    pub id: i64,
    /// What was done: one of [`StageAction`], as it is stored.
    pub action: String,
    /// The version that it was done with; empty for the stage that comes with the program.
    pub version: String,
    /// Its digest; none for the stage that comes with the program.
    pub digest: Option<String>,
    /// When, in Unix microseconds.
    pub at: u64,
    /// By whom.
    pub by: String,
    /// What the name stood for before, if it was something else than the stage that comes with the program.
    pub before: Option<i64>,
}

/// A version to be added.
#[derive(Debug, Clone)]
pub struct NewStageVersion {
    /// What it is called. If another component has that version already, a part of the digest is put behind.
    pub version: String,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// Where it is from.
    pub source: String,
}

/// What a name is to stand for.
#[derive(Debug, Clone)]
pub struct StageTarget {
    /// The digest of one of its versions; none: the stage that comes with the program.
    pub digest: Option<String>,
    /// What a rollback then goes back to.
    pub before: Option<i64>,
    /// The digest of what it stood for, also if that comes with the program: what failed in it is tried again.
    pub replaced: Option<String>,
}

/// A change of a name. What is none stays as it is.
#[derive(Debug, Clone)]
pub struct StageChange {
    /// The name.
    pub name: String,
    /// What is done.
    pub action: StageAction,
    /// The kind of stage, for a name that is new.
    pub kind: String,
    /// Who does it.
    pub by: String,
    /// The event that the name was what it was by when this was decided: by another one, nothing is changed.
    pub expected: Option<i64>,
    /// A version more.
    pub version: Option<NewStageVersion>,
    /// What it is to stand for.
    pub target: Option<StageTarget>,
    /// Whether it is to stay what it is.
    pub pinned: Option<bool>,
}

impl StageNames {
    /// What a name stands for: the version, and its digest. None if it is that of the stage that comes with the
    /// program, or nobody's.
    pub fn current(&self, name: &str) -> Option<&str> {
        self.names.get(name)?.digest()
    }
}

impl StageName {
    /// The digest of what it stands for, unless that comes with the program.
    pub fn digest(&self) -> Option<&str> {
        self.current.as_ref()?.digest.as_deref()
    }

    /// The version of a name, or of a digest.
    pub fn version(&self, version_or_digest: &str) -> Option<&StageVersion> {
        self.versions
            .iter()
            .find(|known| known.version == version_or_digest || known.digest == version_or_digest)
    }
}

impl Store {
    /// Changes a name, in one transaction. Tasks that failed in the component that it stood for, and of whose objects
    /// nothing is sealed, are tried again at once. Returns what the version that was added is called, if one was.
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
            let added = version.map(|version| add(connection, &name, version, &by, now)).transpose()?;
            let digest = match &target {
                Some(target) => target.digest.clone(),
                None => match &added {
                    Some(added) => Some(added.1.clone()),
                    None => current
                        .map(|id| event(connection, id))
                        .transpose()?
                        .flatten()
                        .and_then(|it| it.digest),
                },
            };
            let before = target.as_ref().and_then(|target| target.before);
            let id = tell(connection, &name, action, digest.as_deref(), before, &by, now)?;
            if let Some(target) = target {
                connection.execute("UPDATE stage SET current = ?2 WHERE name = ?1", params![name, id])?;
                retry(connection, target.replaced, now)?;
            }
            if let Some(pinned) = pinned {
                connection.execute("UPDATE stage SET pinned = ?2 WHERE name = ?1", params![name, pinned])?;
            }
            Ok(added.map(|(version, _)| version))
        };
        self.writer.run(true, job).await
    }

    /// Takes a version from a name, or with none all of it: then it stands for the stage that comes with the program, if
    /// there is one, and what failed in the component that it stood for is tried again.
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
            tell(connection, &name, StageAction::Remove, digest.as_deref(), None, &by, now)?;
            match digest {
                Some(digest) => {
                    connection.execute(
                        "DELETE FROM stage_version WHERE stage = ?1 AND digest = ?2",
                        params![name, digest],
                    )?;
                }
                None => {
                    let replaced = current.map(|id| event(connection, id)).transpose()?.flatten();
                    connection.execute("DELETE FROM stage WHERE name = ?1", [&name])?;
                    retry(connection, replaced.and_then(|event| event.digest), now)?;
                }
            }
            Ok(())
        };
        self.writer.run(true, job).await
    }

    /// What was done to a name, the newest first. Blocks on the disk.
    pub fn stage_events(&self, name: &str, count: usize) -> Result<Vec<StageEvent>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {EVENT} FROM stage_event WHERE name = ?1 ORDER BY id DESC LIMIT ?2"
            ))?;
            let events = select.query_map(params![name, count as i64], read_event)?;
            Ok(events.collect::<Result<_, _>>()?)
        })
    }

    /// Something that was done to a name, if it is still known. Blocks on the disk.
    pub fn stage_event(&self, id: i64) -> Result<Option<StageEvent>, StoreError> {
        self.with_reader(|connection| event(connection, id))
    }

    /// Whether the last that was done with a component under a name is that it was removed. Blocks on the disk.
    pub fn is_stage_removed(&self, name: &str, digest: &str) -> Result<bool, StoreError> {
        self.with_reader(|connection| {
            // Without a digest all of the name was removed.
            let mut select = connection.prepare_cached(
                "SELECT action FROM stage_event WHERE name = ?1 AND (digest = ?2 OR (digest IS NULL AND action = 'remove'))
                 ORDER BY id DESC LIMIT 1",
            )?;
            let last: Option<String> = select.query_row([name, digest], |row| row.get(0)).optional()?;
            Ok(last.as_deref() == Some(StageAction::Remove.as_str()))
        })
    }
}

/// Things done that are remembered of a name.
const REMEMBERED: u32 = 200;

const EVENT: &str = "id, action, version, digest, at, who, before";

fn read_event(row: &Row<'_>) -> Result<StageEvent, rusqlite::Error> {
    Ok(StageEvent {
        id: row.get(0)?,
        action: row.get(1)?,
        version: row.get(2)?,
        digest: row.get(3)?,
        at: row.get(4)?,
        by: row.get(5)?,
        before: row.get(6)?,
    })
}

fn event(connection: &Connection, id: i64) -> Result<Option<StageEvent>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT {EVENT} FROM stage_event WHERE id = ?1"))?;
    Ok(select.query_row([id], read_event).optional()?)
}

/// Adds a version unless its component is there. Returns what it is called, and its digest.
fn add(
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
    let mark = digest.get(..8).unwrap_or(&digest);
    let version = if is_taken { format!("{version}+{mark}") } else { version };
    connection.execute(
        "INSERT INTO stage_version (stage, version, digest, size, source, who, added) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![name, version, digest, size, source, by, now],
    )?;
    Ok((version, digest))
}

/// Writes down what was done, and forgets the oldest of it.
fn tell(
    connection: &Connection,
    name: &str,
    action: StageAction,
    digest: Option<&str>,
    before: Option<i64>,
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
        params![name, action.as_str(), version.unwrap_or_default(), digest, now, by, before],
    )?;
    let id = connection.last_insert_rowid();
    connection.execute(
        "DELETE FROM stage_event WHERE name = ?1 AND id < (SELECT id FROM stage_event WHERE name = ?1
             ORDER BY id DESC LIMIT 1 OFFSET ?2) AND id NOT IN (SELECT current FROM stage WHERE current IS NOT NULL)",
        params![name, REMEMBERED],
    )?;
    Ok(id)
}

/// What failed in a component that is replaced, and is not sealed, is tried again: it is made with another one now.
fn retry(connection: &Connection, replaced: Option<String>, now: u64) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE task SET next_try = ?1 WHERE status = ?2 AND stage = ?3 AND sha256 IS NULL
             AND rule IN (SELECT id FROM rule WHERE deleted IS NULL)",
        params![now, Status::Failed.as_str(), replaced],
    )?;
    Ok(())
}

/// All names.
pub(crate) fn read_stages(connection: &Connection) -> Result<StageNames, StoreError> {
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
    let mut names = BTreeMap::new();
    let mut select = connection.prepare_cached("SELECT name, kind, pinned, current FROM stage")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (name, current): (String, Option<i64>) = (row.get(0)?, row.get(3)?);
        let current = current.map(|id| event(connection, id)).transpose()?.flatten();
        let versions = versions.remove(&name).unwrap_or_default();
        names.insert(name, StageName { kind: row.get(1)?, pinned: row.get(2)?, current, versions });
    }
    Ok(StageNames { revision, names })
}

/// Grows with every change of a name.
pub(crate) fn revision(connection: &Connection) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(max(id), 0) FROM stage_event")?;
    Ok(select.query_row([], |row| row.get(0))?)
}
