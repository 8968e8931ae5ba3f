//! Legal holds: logstores whose logs nothing deletes.

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use crate::error::StoreError;

impl Store {
    /// Places a legal hold on a logstore, or changes its reason. Its logs do not expire, and it can't be deleted.
    pub async fn hold_logstore(&self, project: &str, name: &str, reason: &str) -> Result<(), StoreError> {
        let logstore = self.catalog().logstore(project, name)?.id;
        let (name, reason, now) = (name.to_owned(), reason.to_owned(), self.clock() / 1_000_000);
        let job = move |connection: &Connection| {
            let placed = connection.execute(
                "INSERT OR REPLACE INTO legal_hold (logstore, reason, placed)
                 SELECT id, ?2, ?3 FROM logstore WHERE id = ?1",
                params![logstore, reason, now],
            )?;
            // The logstore may have been deleted in the meantime.
            if placed == 0 { Err(StoreError::NoLogstore(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Releases the legal hold of a logstore, if it has one.
    pub async fn release_logstore(&self, project: &str, name: &str) -> Result<(), StoreError> {
        let logstore = self.catalog().logstore(project, name)?.id;
        let job = move |connection: &Connection| {
            connection.execute("DELETE FROM legal_hold WHERE logstore = ?1", [logstore])?;
            Ok(())
        };
        self.writer.run(true, job).await
    }
}

/// Fails if a logstore that meets a condition is under a legal hold.
pub(super) fn check_not_held(connection: &Connection, condition: &str, id: i64) -> Result<(), StoreError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT name, reason FROM legal_hold JOIN logstore ON logstore.id = legal_hold.logstore
         WHERE {condition} ORDER BY name LIMIT 1"
    ))?;
    let held = select.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    held.map_or(Ok(()), |(name, reason)| Err(StoreError::Held { name, reason }))
}
