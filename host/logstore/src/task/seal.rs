//! What is known of the objects of a task, and how it is written down.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{NewTask, Place, Status, TaskId, find, insert, next_of};
use crate::error::StoreError;
use crate::rule::save_next;
use crate::store::Store;

/// What is known of a task once all bytes of its objects are. By default: that it has none, for no log was left for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seal {
    /// How many logs it has.
    pub rows: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes of its objects.
    pub stored_bytes: u64,
    /// SHA-256 of the object, or of the first, in hex; empty where there is none.
    pub sha256: String,
    /// Each object, where their keys were not known before. Empty: there is one at most, with the key that the task has.
    pub objects: Vec<SealedObject>,
}

/// What is known of an object of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedObject {
    /// Its key.
    pub object: String,
    /// How many logs it has.
    pub rows: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Its bytes.
    pub stored_bytes: u64,
    /// SHA-256 of them, in hex.
    pub sha256: String,
}

impl Seal {
    /// The seal of a task with these objects.
    pub fn of(objects: Vec<SealedObject>) -> Self {
        let sum = |of: fn(&SealedObject) -> u64| objects.iter().map(of).sum();
        Self {
            rows: sum(|object| object.rows),
            raw_bytes: sum(|object| object.raw_bytes),
            stored_bytes: sum(|object| object.stored_bytes),
            sha256: objects.first().map(|object| object.sha256.clone()).unwrap_or_default(),
            objects,
        }
    }

    /// Whether there is an object that could be read and compared.
    pub fn has_object(&self) -> bool {
        !self.sha256.is_empty()
    }
}

impl Store {
    /// Writes down what the objects of a task are, all of them at once, and that the task ends at `end`. What it leaves over is for the
    /// shard's next task; where there is one already, it becomes the task `rest`, with this object. Returns whether it did.
    pub async fn seal_task(
        &self,
        id: TaskId,
        end: Place,
        seal: Seal,
        rest: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let has_rest = shrink(connection, id, end, rest, now)?;
            let first = seal.objects.first().map(|first| &first.object);
            let objects = first.map(|_| json!(seal.objects).to_string());
            connection
                .prepare_cached(
                    "UPDATE task SET sha256 = ?3, rows = ?4, raw_bytes = ?5, stored_bytes = ?6,
                         object = coalesce(?7, object), objects = ?8
                     WHERE created = ?1 AND number = ?2",
                )?
                .execute(params![
                    id.created,
                    id.number,
                    seal.sha256,
                    seal.rows,
                    seal.raw_bytes,
                    seal.stored_bytes,
                    first,
                    objects
                ])?;
            Ok(has_rest)
        };
        self.writer.run(false, job).await
    }

    /// Writes down that a task ends at `end` and has so many rows, before it is known what becomes of them: whoever
    /// makes its object may do so without being heard. What it leaves over is as with [`seal_task`](Self::seal_task).
    pub async fn cut_task(
        &self,
        id: TaskId,
        end: Place,
        rows: u64,
        rest: (TaskId, String),
    ) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let job = move |connection: &Connection| {
            let has_rest = shrink(connection, id, end, rest, now)?;
            connection
                .prepare_cached("UPDATE task SET rows = ?3 WHERE created = ?1 AND number = ?2")?
                .execute(params![id.created, id.number, rows])?;
            Ok(has_rest)
        };
        self.writer.run(false, job).await
    }

    /// Lets a task that was cut be cut anew: it is sure that nothing was made of it.
    pub async fn uncut_task(&self, id: TaskId) -> Result<(), StoreError> {
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

/// The seal of a row, if it has one: its hash, rows, bytes before compression, bytes and objects are in these columns.
pub(super) fn read(row: &Row<'_>, columns: [usize; 5]) -> Result<Option<Seal>, rusqlite::Error> {
    let [sha256, rows, raw_bytes, stored_bytes, objects] = columns;
    let Some(sha256) = row.get::<_, Option<String>>(sha256)? else { return Ok(None) };
    let text: Option<String> = row.get(objects)?;
    let objects = text
        .map_or(Ok(vec![]), |text| serde_json::from_str(&text))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(objects, Type::Text, Box::new(error)))?;
    let (rows, raw_bytes, stored_bytes) = (row.get(rows)?, row.get(raw_bytes)?, row.get(stored_bytes)?);
    Ok(Some(Seal { rows, raw_bytes, stored_bytes, sha256, objects }))
}

/// Lets a task that runs end at `end`. What it leaves over is for the shard's next task; where there is one already, it
/// becomes the task `rest`, with this object. Returns whether it did.
fn shrink(
    connection: &Connection,
    id: TaskId,
    end: Place,
    (rest, object): (TaskId, String),
    now: u64,
) -> Result<bool, StoreError> {
    let task = find(connection, id)?;
    if task.status != Status::Running {
        // Its rule was deleted meanwhile.
        return Err(StoreError::NoTask(id.to_string()));
    }
    let mut has_rest = false;
    if end < task.end {
        if next_of(connection, task.rule_number, task.shard)? == Some(task.end) {
            save_next(connection, task.rule_number, task.shard, end)?;
        } else {
            let rest = NewTask {
                id: rest,
                shard: task.shard,
                begin: end,
                end: task.end,
                object,
                received: task.received,
                plan: String::new(),
                revision: 0,
            };
            insert(connection, task.rule_number, task.plan, &rest, 0, now)?;
            has_rest = true;
        }
    }
    connection
        .prepare_cached("UPDATE task SET end_cursor = ?3, end_log = ?4 WHERE created = ?1 AND number = ?2")?
        .execute(params![id.created, id.number, end.cursor, end.log])?;
    Ok(has_rest)
}
