//! Plans: the rule and the stage digests that tasks use.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Returns a plan as JSON. Blocks on disk I/O.
    pub fn plan(&self, plan: i64) -> Result<String, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM plan WHERE id = ?1")?;
            Ok(statement.query_row([plan], |row| row.get(0))?)
        })
    }

    /// Returns all plans of tasks and the latest plan of each rule, as JSON. Blocks on disk I/O.
    pub fn plans(&self) -> Result<Vec<String>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM plan")?;
            let plans = statement.query_map([], |row| row.get(0))?;
            Ok(plans.collect::<Result<_, _>>()?)
        })
    }
}

/// Saves a plan, or finds an equal plan of the rule. Returns its number.
pub(in crate::store) fn save_plan(
    connection: &Connection,
    rule: i64,
    plan: &str,
    now: u64,
) -> Result<i64, StoreError> {
    // A rule may change back, so an equal plan may be an old one.
    let existing = connection
        .prepare_cached("SELECT id FROM plan WHERE rule = ?1 AND content = ?2")?
        .query_row(params![rule, plan], |row| row.get(0))
        .optional()?;
    if let Some(plan) = existing {
        return Ok(plan);
    }
    connection
        .prepare_cached("INSERT INTO plan (rule, content, created) VALUES (?1, ?2, ?3)")?
        .execute(params![rule, plan, now / 1_000_000])?;
    Ok(connection.last_insert_rowid())
}
