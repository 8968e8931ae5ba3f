//! Saves manifests, and the final ranges of tasks.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde_json::json;

use super::{find, insert, is_sealed, next_of};
use crate::error::StoreError;
use crate::model::{NewTask, ObjectManifest, Status, TaskId};
use crate::position::LogPosition;
use crate::store::Store;
use crate::store::chain::save_heads;
use crate::store::rule::save_next;

impl Store {
    /// Saves the manifest of a task, and its final range end. The remainder of the old range goes to the shard's next
    /// task. If that exists already, it becomes a new task with the id and object key in `remainder`. Returns true if
    /// it did.
    pub async fn save_manifest(
        &self,
        id: TaskId,
        end: LogPosition,
        manifest: ObjectManifest,
        remainder: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let has_remainder = shrink(connection, id, end, remainder, now)?;
            let first = manifest.objects.first().map(|first| &first.object);
            let objects = first.map(|_| json!(manifest.objects).to_string());
            connection
                .prepare_cached(
                    "UPDATE task SET sha256 = ?3, rows = ?4, raw_bytes = ?5, stored_bytes = ?6,
                         object = coalesce(?7, object), objects = ?8
                     WHERE created = ?1 AND number = ?2",
                )?
                .execute(params![
                    id.created,
                    id.number,
                    manifest.sha256,
                    manifest.rows,
                    manifest.raw_bytes,
                    manifest.stored_bytes,
                    first,
                    objects
                ])?;
            Ok(has_remainder)
        };
        self.writer.run(false, job).await
    }

    /// Fixes the range end and the number of rows of a task before its object is made. A remote executor may store the
    /// object even if its reply is lost. The remainder is handled as in [`save_manifest`](Self::save_manifest).
    pub async fn fix_range(
        &self,
        id: TaskId,
        end: LogPosition,
        rows: u64,
        remainder: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let has_remainder = shrink(connection, id, end, remainder, now)?;
            connection
                .prepare_cached("UPDATE task SET rows = ?3 WHERE created = ?1 AND number = ?2")?
                .execute(params![id.created, id.number, rows])?;
            Ok(has_remainder)
        };
        self.writer.run(false, job).await
    }

    /// Releases a fixed range, so that it can change again. The caller must be sure that no object was made.
    pub async fn release_range(&self, id: TaskId) -> Result<(), StoreError> {
        let job = move |connection: &Connection| {
            connection
                .prepare_cached(
                    "UPDATE task SET rows = NULL WHERE created = ?1 AND number = ?2 AND sha256 IS NULL",
                )?
                .execute(params![id.created, id.number])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }
}

/// Reads the manifest of a row, if it has one. `columns` are the indices of the digest, rows, raw bytes, stored bytes
/// and objects.
pub(super) fn read(row: &Row<'_>, columns: [usize; 5]) -> Result<Option<ObjectManifest>, rusqlite::Error> {
    let [sha256, rows, raw_bytes, stored_bytes, objects] = columns;
    let Some(sha256) = row.get::<_, Option<String>>(sha256)? else { return Ok(None) };
    let text: Option<String> = row.get(objects)?;
    let objects = text
        .map_or(Ok(vec![]), |text| serde_json::from_str(&text))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(objects, Type::Text, Box::new(error)))?;
    let (rows, raw_bytes, stored_bytes) = (row.get(rows)?, row.get(raw_bytes)?, row.get(stored_bytes)?);
    Ok(Some(ObjectManifest { rows, raw_bytes, stored_bytes, sha256, objects }))
}

/// Sets the range end of a running task. The remainder of its old range goes to the shard's next task. If that exists
/// already, it becomes a new task. Returns true if it did.
///
/// # Errors
/// [`StoreError::NoTask`] if the task is not running.
fn shrink(
    connection: &Connection,
    id: TaskId,
    end: LogPosition,
    (remainder_id, object): (TaskId, String),
    now: u64,
) -> Result<bool, StoreError> {
    let task = find(connection, id)?;
    if task.status != Status::Running {
        // The rule was deleted in the meantime.
        return Err(StoreError::NoTask(id.to_string()));
    }
    let mut has_remainder = false;
    if end < task.end {
        let is_sealed = is_sealed(connection, id)?;
        let is_last = next_of(connection, task.rule_number, task.shard)? == Some(task.end);
        // The remainder of a sealed task must not depend on logs that a backup does not have.
        if is_last && !is_sealed {
            save_next(connection, task.rule_number, task.shard, end)?;
        } else {
            let remainder = NewTask {
                id: remainder_id,
                shard: task.shard,
                begin: end,
                end: task.end,
                object,
                received: task.received,
                plan: String::new(),
                revision: 0,
                is_sealed,
            };
            insert(connection, task.rule_number, task.plan, &remainder, 0, now)?;
            has_remainder = true;
        }
    }
    connection
        .prepare_cached("UPDATE task SET end_cursor = ?3, end_log = ?4 WHERE created = ?1 AND number = ?2")?
        .execute(params![id.created, id.number, end.cursor, end.log])?;
    if end != task.end {
        let range = (task.begin, end);
        save_heads(connection, (id.created, id.number), task.rule_number, task.shard, range)?;
    }
    Ok(has_remainder)
}
