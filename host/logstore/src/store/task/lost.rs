//! Saves the values that are not in the objects of a task.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde_json::json;

use crate::error::StoreError;
use crate::model::{LostValues, TaskId};
use crate::store::Store;

impl Store {
    /// Saves the lost values of a task.
    pub async fn save_lost(&self, id: TaskId, lost: LostValues) -> Result<(), StoreError> {
        let job = move |connection: &Connection| {
            let text = (!lost.is_empty()).then(|| json!(lost).to_string());
            connection
                .prepare_cached("UPDATE task SET lost = ?3 WHERE created = ?1 AND number = ?2")?
                .execute(params![id.created, id.number, text])?;
            Ok(())
        };
        self.writer.run(false, job).await
    }
}

/// Reads the lost values of a row.
pub(super) fn read(row: &Row<'_>, column: usize) -> Result<Option<LostValues>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    let lost = text.map(|text| serde_json::from_str(&text)).transpose();
    lost.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
