//! Saves how far dead letters are resent as rows. Each step is on disk before the request that depends on it.

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use crate::error::StoreError;

impl Store {
    /// Returns the saved state of a resend of an object of dead letters. Blocks on disk I/O.
    pub fn resend(&self, letters: &str) -> Result<Option<String>, StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached("SELECT state FROM resend WHERE letters = ?1")?;
            Ok(select.query_row([letters], |row| row.get(0)).optional()?)
        })
    }

    /// Saves the state of a resend.
    pub async fn save_resend(&self, letters: &str, state: String) -> Result<(), StoreError> {
        let letters = letters.to_owned();
        let save = move |connection: &Connection| {
            connection.execute(
                "INSERT INTO resend (letters, state) VALUES (?1, ?2)
                 ON CONFLICT (letters) DO UPDATE SET state = excluded.state",
                params![letters, state],
            )?;
            Ok(())
        };
        self.writer.run(false, save).await
    }

    /// Forgets a resend whose letters are deleted.
    pub async fn end_resend(&self, letters: &str) -> Result<(), StoreError> {
        let letters = letters.to_owned();
        let end = move |connection: &Connection| {
            connection.execute("DELETE FROM resend WHERE letters = ?1", [letters])?;
            Ok(())
        };
        self.writer.run(false, end).await
    }
}
