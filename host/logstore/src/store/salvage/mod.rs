//! Salvages what is readable from a damaged database into a new one.
//!
//! The rows of each table are copied one by one, around what SQLite can't read. Then the pages of the file are searched
//! for log groups that no tree leads to any more; their checksums prove them. The damaged files are never changed.

mod pages;
mod tables;

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::damage::Damage;
use crate::error::StoreError;
use crate::files::{create_private_directory, private_file_options};
use crate::schema;
use crate::store::lock_directory;
use crate::store::restore::Restored;

/// The result of a salvage.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The number of copied log groups.
    pub groups: u64,
    /// The number of log groups that only a search of the pages found.
    pub found: u64,
    /// Damaged log groups, which were not copied.
    pub damaged: Vec<Damage>,
    /// Tables with unreadable rows, and the number of rows that were copied nevertheless.
    pub broken_tables: Vec<(String, u64)>,
    /// The rules that wait for an operator, as in `PROJECT/LOGSTORE/RULE`.
    pub waiting_rules: Vec<String>,
}

/// Returns what SQLite's own check finds, in its words; nothing if the structure is intact.
pub fn check_structure(directory: &Path) -> Result<Vec<String>, StoreError> {
    let connection = open(&directory.join("logstore.db"))?;
    let check = || {
        let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
    };
    let mut problems = check().unwrap_or_else(|error| vec![error.to_string()]);
    problems.retain(|problem| problem != "ok");
    Ok(problems)
}

impl Salvage {
    /// Salvages the store in `from` into the new directory `to`, at the time `now` in Unix microseconds. No service may
    /// use `from`.
    ///
    /// # Errors
    /// When `to` is not empty, the disk is full, or the database's header is damaged.
    pub fn run(from: &Path, to: &Path, now: u64) -> Result<Self, StoreError> {
        let _lock = lock_directory(from)?;
        let (damaged, file) = (from.join("logstore.db"), to.join("logstore.db"));
        let source = open_damaged(&damaged)?;
        let failed = |source| StoreError::File { path: file.clone(), source };
        create_private_directory(to).map_err(failed)?;
        private_file_options().write(true).create_new(true).open(&file).map_err(failed)?;
        let mut target = schema::open_writer(&file)?;
        target.pragma_update(None, "foreign_keys", false)?;
        let mut salvage = Self::default();
        let transaction = target.transaction()?;
        salvage.copy_tables(&source, &transaction)?;
        tables::replace_impossible_values(&transaction)?;
        tables::name_orphans(&transaction)?;
        salvage.copy_groups(&source, &transaction)?;
        salvage.find_groups(&source, &damaged, &transaction)?;
        tables::remove_orphans(&transaction)?;
        transaction.commit()?;
        target.close().map_err(|(_, error)| error)?;
        // The last log groups may be gone, so cursors of the damaged store must not be given out again.
        salvage.waiting_rules = Restored::begin(to, &Default::default(), now)?.waiting_rules;
        Ok(salvage)
    }
}

/// Opens a database for reading. Fails if it has no readable header.
fn open(path: &Path) -> Result<Connection, StoreError> {
    if let Err(source) = std::fs::metadata(path) {
        return Err(StoreError::File { path: path.to_owned(), source });
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, u32>(0)) {
        Err(source) if source.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(StoreError::Unsalvageable { path: path.to_owned(), source })
        }
        _ => Ok(connection),
    }
}

/// Opens a damaged database for reading. SQLite uses what it understands of the schema, and a truncated file.
fn open_damaged(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    connection.pragma_update(None, "writable_schema", true)?;
    Ok(connection)
}
