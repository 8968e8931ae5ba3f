//! Records changes of the access keys in the audit log: those that `logship key` announced, and edits of the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logship_logstore::{AuditRecord, StoreError};
use serde::{Deserialize, Serialize};

use crate::Service;
use crate::key_changes::{self, KeyChange, REVOKE};
use crate::keys::{Key, KeyFile, KeysError};

/// The name of the state in the store.
const STATE: &str = "keys";

/// The keys that the audit log knows, and the announced changes that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KnownKeys {
    /// The access and a digest of the secrets of each key.
    keys: BTreeMap<String, String>,
    /// The first announced change, and the number of those that are recorded. A crash may leave them in their file.
    announced: Option<(u64, usize)>,
}

/// Why changes of keys can't be recorded.
#[derive(Debug, thiserror::Error)]
enum KeyAuditError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("can't read the announced changes of keys: {0}")]
    Announced(#[from] std::io::Error),
    #[error("the known keys are invalid: {0}")]
    State(#[from] serde_json::Error),
}

/// The changes to record, and the keys that are known then.
struct Scan {
    records: Vec<AuditRecord>,
    known: KnownKeys,
}

/// Records the changes since the last call. A failure is logged; the next call tries again.
pub(crate) async fn record_changes(service: &Arc<Service>) {
    if let Err(error) = try_record(service).await {
        tracing::error!(%error, "can't record changes of access keys in the audit log; it will be retried");
    }
}

async fn try_record(service: &Arc<Service>) -> Result<(), KeyAuditError> {
    let scanned = Arc::clone(service);
    let scan = tokio::task::spawn_blocking(move || scan(&scanned));
    let Some(Scan { records, known }) = scan.await.map_err(std::io::Error::other)?? else { return Ok(()) };
    let has_announced = known.announced.is_some();
    service.store.audit_with_state(records, STATE, &serde_json::to_string(&known)?).await?;
    if has_announced {
        let (data, recorded) = (service.config.data.clone(), known.announced);
        let cleared = tokio::task::spawn_blocking(move || clear(&data, recorded));
        cleared.await.map_err(std::io::Error::other)??;
    }
    Ok(())
}

/// Finds changes, or returns `None` without any.
fn scan(service: &Service) -> Result<Option<Scan>, KeyAuditError> {
    let data = &service.config.data;
    let file = KeyFile::within(data);
    // Waits for a command between its announcement and its change.
    let _lock = file.lock()?;
    let announced = key_changes::read(data)?;
    let keys = file.read()?;
    let state = service.store.audit_state(STATE)?;
    let before: KnownKeys = state.as_deref().map(serde_json::from_str).transpose()?.unwrap_or_default();
    let mut known = KnownKeys {
        keys: BTreeMap::new(),
        announced: announced.first().map(|first| (first.time, announced.len())),
    };
    for key in &keys {
        known.keys.insert(key.id.clone(), describe(service, key)?);
    }
    if known == before || (known.keys == before.keys && announced.is_empty()) {
        return Ok(None);
    }
    let recorded = match (before.announced, announced.first()) {
        (Some((time, count)), Some(first)) if first.time == time => count.min(announced.len()),
        _ => 0,
    };
    let new = &announced[recorded..];
    let is_last = |index: usize| new[index + 1..].iter().all(|later| later.key != new[index].key);
    let record = |(index, change): (usize, &KeyChange)| {
        let mut record = announced_record(change, &before, &known);
        if is_last(index) && (change.operation == REVOKE) == known.keys.contains_key(&change.key) {
            // The command ended between the announcement and the change.
            record.outcome = "Unfinished".into();
        }
        record
    };
    let mut records: Vec<_> = new.iter().enumerate().map(record).collect();
    let is_announced = |id: &String| new.iter().any(|change| change.key == *id);
    let ids = before.keys.keys().chain(known.keys.keys().filter(|id| !before.keys.contains_key(*id)));
    let edited = ids.filter(|id| before.keys.get(*id) != known.keys.get(*id) && !is_announced(id));
    let who = if state.is_none() { "unknown: before the audit log" } else { "unknown: keys.toml was edited" };
    records.extend(edited.map(|id| edited_record(id, who, &before, &known)));
    Ok(Some(Scan { records, known }))
}

/// Returns the access of a key, and digests of its secrets.
fn describe(service: &Service, key: &Key) -> Result<String, StoreError> {
    let grants: Vec<_> =
        key.grants.iter().map(|grant| format!("{} {}", grant.access, grant.project)).collect();
    let secrets =
        format!("{} {}", key.secret.expose(), key.token.as_ref().map_or("", |token| token.expose()));
    let digest = service.store.audit_digest(&secrets)?;
    let expires = key.expires.map(|time| format!(", expires {time}")).unwrap_or_default();
    Ok(match &key.policy {
        None => format!("{}{expires}, secret {digest}", grants.join(", ")),
        // A long policy is cut at its end.
        Some(policy) => format!("secret {digest}{expires}, policy {}", policy.to_json()),
    })
}

fn announced_record(change: &KeyChange, before: &KnownKeys, known: &KnownKeys) -> AuditRecord {
    let shown = |keys: &KnownKeys| keys.keys.get(&change.key).cloned().unwrap_or_default();
    AuditRecord {
        operation: change.operation.clone(),
        outcome: "OK".into(),
        who: change.who.clone(),
        address: "local".into(),
        object: change.key.clone(),
        before: shown(before),
        after: shown(known),
        ..AuditRecord::default()
    }
}

fn edited_record(id: &str, who: &str, before: &KnownKeys, known: &KnownKeys) -> AuditRecord {
    let operation = match (before.keys.contains_key(id), known.keys.contains_key(id)) {
        (false, _) => "create key",
        (true, true) => "change key",
        (true, false) => REVOKE,
    };
    let change = KeyChange { time: 0, operation: operation.into(), who: who.into(), key: id.into() };
    announced_record(&change, before, known)
}

/// Removes the announced changes if all are recorded.
fn clear(data: &Path, recorded: Option<(u64, usize)>) -> Result<(), KeyAuditError> {
    let file = KeyFile::within(data);
    let _lock = file.lock()?;
    let announced = key_changes::read(data)?;
    if announced.first().map(|first| (first.time, announced.len())) == recorded {
        key_changes::clear(data)?;
    }
    Ok(())
}
