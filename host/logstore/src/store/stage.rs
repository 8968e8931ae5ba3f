//! Changes stage aliases and their versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::stage_event::{find_event, record_event, revision};
use crate::audit::AuditScope;
use crate::error::StoreError;
use crate::model::{
    AuditRecord, AuditTarget, NewStageVersion, StageAction, StageAlias, StageAliases, StageChange,
    StageVersion, Status,
};

impl Store {
    /// Changes an alias, in one transaction. Tasks without a manifest that failed in the replaced component are retried
    /// at once. Returns the name of the added version, if any.
    ///
    /// # Errors
    /// [`StoreError::StageChanged`] if the current event is not the expected one.
    pub async fn change_stage(&self, change: StageChange) -> Result<Option<String>, StoreError> {
        let now = (self.options.clock)();
        let scope = stage_scope(&change.name, change.action.as_str(), &change.by);
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
        scope.run(async { self.writer.run(true, job).await }).await
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
        let scope = stage_scope(name, StageAction::Remove.as_str(), by);
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
        scope.run(async { self.writer.run(true, job).await }).await
    }
}

/// Returns the scope of the current operation, or a new one: the service imports components from a folder.
fn stage_scope(name: &str, action: &str, by: &str) -> Arc<AuditScope> {
    AuditScope::current().unwrap_or_else(|| {
        AuditScope::new(AuditRecord {
            operation: format!("{action} stage"),
            who: by.to_owned(),
            target: AuditTarget::Stage,
            object: name.to_owned(),
            ..AuditRecord::default()
        })
    })
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
pub(super) fn read_stages(connection: &Connection) -> Result<StageAliases, StoreError> {
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
