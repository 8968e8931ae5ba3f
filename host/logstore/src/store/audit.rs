//! Writes the audit log: a logstore that only the store itself writes.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Store;
use super::logstore::insert_logstore;
use crate::error::StoreError;
use crate::model::{AUDIT_LOGSTORE, AUDIT_PROJECT, AuditRecord, AuditTarget, FOREVER, LogstoreSettings};

/// The interval at which the progress of a consumer group in a shard is recorded, in seconds.
const PROGRESS_INTERVAL: u64 = 60;

/// The number of shards whose last record is remembered.
const MAX_PROGRESS: usize = 4096;

impl Store {
    /// Creates the audit log if it is missing. Without it, changes are not recorded.
    pub async fn create_audit_log(&self) -> Result<(), StoreError> {
        if self.catalog().logstore(AUDIT_PROJECT, AUDIT_LOGSTORE).is_ok() {
            return Ok(());
        }
        let (origin, now) = (self.new_position(), self.now());
        let job = move |connection: &Connection| {
            connection.execute(
                "INSERT OR IGNORE INTO project (name, description, created, modified) VALUES (?1, ?2, ?3, ?3)",
                params![AUDIT_PROJECT, "the audit log of the service", now],
            )?;
            let settings = LogstoreSettings { ttl: FOREVER, settings: json!({}) };
            match insert_logstore(connection, AUDIT_PROJECT, AUDIT_LOGSTORE, 1, &settings, (origin, now)) {
                Err(StoreError::LogstoreExists(_)) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.writer.run(true, job).await
    }

    /// Writes a record that belongs to no change of the store.
    pub async fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let catalog = self.catalog();
        let logstore = catalog.logstore(AUDIT_PROJECT, AUDIT_LOGSTORE)?;
        let group =
            record.encode((self.options.clock)()).map_err(|error| StoreError::Commit(error.to_string()))?;
        self.put(logstore.shard(0)?, vec![group]).await.map(drop)
    }

    /// Returns a value that the audit log needs to keep. Blocks on disk I/O.
    pub fn audit_state(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.with_reader(|connection| read_state(connection, name))
    }

    /// Writes records, and a value that the audit log needs to keep, in one transaction.
    pub async fn audit_with_state(
        &self,
        records: Vec<AuditRecord>,
        name: &str,
        value: &str,
    ) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        let job = move |connection: &Connection| {
            connection.execute("INSERT OR REPLACE INTO audit_state VALUES (?1, ?2)", [name, value])?;
            Ok(())
        };
        self.writer.run_audited(false, records, job).await
    }

    /// Returns a digest of a secret or a configuration that says nothing about it outside of this store. Blocks on disk
    /// I/O.
    pub fn audit_digest(&self, content: &str) -> Result<String, StoreError> {
        self.with_reader(|connection| digest(connection, content))
    }
}

/// Tells which changes of checkpoints are recorded: consumers save them every few seconds.
#[derive(Debug, Default)]
pub(super) struct ProgressFilter(HashMap<String, u64>);

impl ProgressFilter {
    /// Returns true unless the change is the regular progress of a consumer, recorded within the last minute.
    fn admits(&mut self, record: &AuditRecord, before: &Value, after: &Value, now: u64) -> bool {
        let position = |state: &Value| state["position"].as_u64();
        let is_progress = before["consumer"] == after["consumer"] && position(before) <= position(after);
        if !is_progress || before.is_null() {
            return true;
        }
        if record.project == AUDIT_PROJECT {
            // The record would be a new log for the consumer to read.
            return false;
        }
        let AuditRecord { project, logstore, object, target, .. } = record;
        let key = format!("{project}/{logstore}/{object}/{target:?}");
        if self.0.get(&key).is_some_and(|last| now.abs_diff(*last) < PROGRESS_INTERVAL) {
            return false;
        }
        if self.0.len() >= MAX_PROGRESS {
            self.0.clear();
        }
        self.0.insert(key, now);
        true
    }
}

/// The state of an object in the database.
#[derive(Debug, Default)]
pub(super) struct ObjectState {
    shown: Value,
    /// Its configuration, of which only a digest is shown.
    configuration: String,
}

/// Returns the state of the object of a record.
pub(super) fn object_state(connection: &Connection, record: &AuditRecord) -> Result<ObjectState, StoreError> {
    let AuditRecord { project, logstore, object, .. } = record;
    let plain = |shown| ObjectState { shown, configuration: String::new() };
    let configured = |select: &str| {
        let read = |row: &Row<'_>| Ok(ObjectState { shown: json!({}), configuration: row.get(0)? });
        connection.query_row(select, [project, object], read).optional()
    };
    let state = match record.target {
        AuditTarget::Other => None,
        AuditTarget::Project => connection
            .query_row("SELECT description FROM project WHERE name = ?1", [project], |row| {
                Ok(plain(json!({ "description": row.get::<_, String>(0)? })))
            })
            .optional()?,
        AuditTarget::Logstore => logstore_state(connection, project, logstore)?,
        AuditTarget::Rule => connection
            .query_row(
                "SELECT target, configuration FROM rule WHERE name = ?3 AND deleted IS NULL AND logstore =
                     (SELECT logstore.id FROM logstore JOIN project ON project.id = project WHERE project.name = ?1 AND logstore.name = ?2)",
                [project, logstore, object],
                |row| {
                    let shown = json!({ "target": row.get::<_, String>(0)? });
                    Ok(ObjectState { shown, configuration: row.get(1)? })
                },
            )
            .optional()?,
        AuditTarget::Group => find_group(connection, record)?.map(|(_, shown)| plain(shown)),
        AuditTarget::Checkpoint { shard } => match find_group(connection, record)? {
            Some((group, _)) => connection
                .query_row(
                    "SELECT cursor, consumer FROM checkpoint WHERE consumer_group = ?1 AND shard = ?2",
                    params![group, shard],
                    |row| {
                        let (position, consumer): (u64, String) = (row.get(0)?, row.get(1)?);
                        Ok(plain(json!({ "shard": shard, "position": position, "consumer": consumer })))
                    },
                )
                .optional()?,
            None => None,
        },
        AuditTarget::Source => configured(
            "SELECT content FROM data_source JOIN project ON project.id = project
             WHERE project.name = ?1 AND data_source.name = ?2",
        )?,
        AuditTarget::Job => configured(
            "SELECT configuration FROM job JOIN project ON project.id = project
             WHERE project.name = ?1 AND job.name = ?2",
        )?,
        AuditTarget::Stage => connection
            .query_row(
                "SELECT version, digest, pinned FROM stage LEFT JOIN stage_event ON stage_event.id = current WHERE stage.name = ?1",
                [object],
                |row| {
                    let (version, digest): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
                    Ok(plain(json!({ "version": version, "digest": digest, "pinned": row.get::<_, bool>(2)? })))
                },
            )
            .optional()?,
    };
    let mut state = state.unwrap_or_default();
    if !state.configuration.is_empty() {
        state.shown["configuration"] = digest(connection, &state.configuration)?.into();
    }
    Ok(state)
}

fn logstore_state(
    connection: &Connection,
    project: &str,
    logstore: &str,
) -> Result<Option<ObjectState>, StoreError> {
    let found = connection
        .query_row(
            "SELECT ttl, settings, logstore.id FROM logstore JOIN project ON project.id = project
             WHERE project.name = ?1 AND logstore.name = ?2",
            [project, logstore],
            |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)),
        )
        .optional()?;
    let Some((ttl, configuration, id)) = found else { return Ok(None) };
    let mut select = connection
        .prepare_cached("SELECT number FROM shard WHERE logstore = ?1 AND writable ORDER BY number")?;
    let shards = select.query_map([id], |row| row.get::<_, u32>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(Some(ObjectState { shown: json!({ "ttl": ttl, "shards": shards }), configuration }))
}

fn find_group(connection: &Connection, record: &AuditRecord) -> Result<Option<(i64, Value)>, StoreError> {
    let found = connection.query_row(
        "SELECT consumer_group.id, timeout, ordered FROM consumer_group JOIN logstore ON logstore.id = logstore
             JOIN project ON project.id = project
         WHERE project.name = ?1 AND logstore.name = ?2 AND consumer_group.name = ?3",
        [&record.project, &record.logstore, &record.object],
        |row| {
            let shown = json!({ "timeout": row.get::<_, u32>(1)?, "order": row.get::<_, bool>(2)? });
            Ok((row.get(0)?, shown))
        },
    );
    Ok(found.optional()?)
}

/// Returns the record of a successful change, or `None` if it is not recorded.
pub(super) fn changed_record(
    record: &AuditRecord,
    before: &ObjectState,
    after: &ObjectState,
    progress: &mut ProgressFilter,
    now: u64,
) -> Option<AuditRecord> {
    let is_checkpoint = matches!(record.target, AuditTarget::Checkpoint { .. });
    if is_checkpoint && !progress.admits(record, &before.shown, &after.shown, now) {
        return None;
    }
    let show =
        |state: &ObjectState| if state.shown.is_null() { String::new() } else { state.shown.to_string() };
    let mut changed = vec![];
    if !before.configuration.is_empty() && !after.configuration.is_empty() {
        let parse = |state: &ObjectState| serde_json::from_str(&state.configuration).unwrap_or_default();
        changed_members("", &parse(before), &parse(after), &mut changed);
    }
    let outcome = "OK".to_owned();
    let (before, after, changed) = (show(before), show(after), changed.join(", "));
    Some(AuditRecord { outcome, before, after, changed, ..record.clone() })
}

/// Collects the paths of members that differ. Values are not shown: they may be secrets.
fn changed_members(path: &str, before: &Value, after: &Value, changed: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let value = |object: &serde_json::Map<_, _>| object.get(name).cloned().unwrap_or_default();
                changed_members(&path, &value(before), &value(after), changed);
            }
        }
        _ if before != after => changed.push(path.to_owned()),
        _ => {}
    }
}

fn read_state(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM audit_state WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

/// Returns a digest that is keyed by a secret of the store: a weak secret can't be guessed from it.
fn digest(connection: &Connection, content: &str) -> Result<String, StoreError> {
    let key = read_state(connection, "digest-key")?.unwrap_or_default();
    let inner = Sha256::new().chain_update(&key).chain_update(content).finalize();
    let outer = Sha256::new().chain_update(&key).chain_update(inner).finalize();
    Ok(outer[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}
