//! Saves the upload sessions of the rows of a task.

use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::model::TaskId;
use crate::store::Store;

impl Store {
    /// Saves the upload sessions of a task, in the form of its kind of work.
    pub async fn save_sessions(&self, id: TaskId, sessions: String) -> Result<(), StoreError> {
        let job = move |connection: &Connection| {
            let changed = connection
                .prepare_cached("UPDATE task SET sessions = ?3 WHERE created = ?1 AND number = ?2")?
                .execute(params![id.created, id.number, sessions])?;
            // Without the row, blocks would be sent to a session that nobody remembers.
            if changed == 0 { Err(StoreError::NoTask(id.to_string())) } else { Ok(()) }
        };
        self.writer.run(false, job).await
    }
}
