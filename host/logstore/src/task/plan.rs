//! What tasks are made by.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// What a task is made by, as JSON. Blocks on the disk.
    pub fn plan(&self, plan: i64) -> Result<String, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM plan WHERE id = ?1")?;
            Ok(statement.query_row([plan], |row| row.get(0))?)
        })
    }

    /// All that a task was, or a next one may be, made by: the plans as JSON. Blocks on the disk.
    pub fn plans(&self) -> Result<Vec<String>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM plan")?;
            let plans = statement.query_map([], |row| row.get(0))?;
            Ok(plans.collect::<Result<_, _>>()?)
        })
    }
}

pub(super) fn save_plan(connection: &Connection, rule: i64, plan: &str, now: u64) -> Result<i64, StoreError> {
    // The newest that reads the same: rules change back, too.
    let newest = connection
        .prepare_cached("SELECT id FROM plan WHERE rule = ?1 AND content = ?2")?
        .query_row(params![rule, plan], |row| row.get(0))
        .optional()?;
    if let Some(plan) = newest {
        return Ok(plan);
    }
    connection
        .prepare_cached("INSERT INTO plan (rule, content, created) VALUES (?1, ?2, ?3)")?
        .execute(params![rule, plan, now / 1_000_000])?;
    Ok(connection.last_insert_rowid())
}
