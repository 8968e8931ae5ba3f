//! Restored databases: they begin a generation before they are used.

use std::collections::HashSet;
use std::path::Path;

use super::generation::{self, begin, new_token};
use super::high_water::{self, Mark};
use super::waiting_rules;
use crate::error::StoreError;
use crate::model::{Generation, GenerationReason};
use crate::moment::Moment;
use crate::schema;

/// The directory, in a data directory, with the files of a restore that is not complete.
pub const RESTORING: &str = "restoring";

/// Fails if a restore into `directory` was interrupted.
pub(super) fn check_complete(directory: &Path) -> Result<(), StoreError> {
    let restoring = directory.join(RESTORING);
    // The directory is empty after the last file was moved.
    let is_complete = !restoring.exists() || std::fs::remove_dir(&restoring).is_ok();
    if is_complete { Ok(()) } else { Err(StoreError::Restoring(directory.to_owned())) }
}

/// A restored store.
#[derive(Debug)]
pub struct Restored {
    /// Its generation.
    pub generation: Generation,
    /// The names of the rules that wait for an operator, as in `PROJECT/LOGSTORE/RULE`.
    pub waiting_rules: Vec<String>,
}

impl Restored {
    /// Begins a generation in a database that was put into `directory`, at the time `now` in Unix microseconds. The
    /// rules with the numbers `repeatable` make the same objects again under the same keys, so they don't wait.
    ///
    /// Nothing else may use the directory.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn begin(directory: &Path, repeatable: &HashSet<i64>, now: u64) -> Result<Self, StoreError> {
        let connection = schema::open_writer(&directory.join("logstore.db"))?;
        let token = new_token();
        let generation = begin(&connection, token.clone(), GenerationReason::Restored, 0, now, repeatable)?;
        let waiting_rules = waiting_rules::names(&connection)?;
        let moment = Moment { time: now, ..Moment::default() };
        let mark = Mark { token, moment, ..generation::count(&connection)? };
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        connection.close().map_err(|(_, error)| error)?;
        high_water::create(directory, mark).map_err(|(path, source)| StoreError::File { path, source })?;
        Ok(Self { generation, waiting_rules })
    }
}
