//! Copies of a database.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::error::StoreError;
use crate::files::{private_file_options, sync};

/// The pages of a step of a copy.
const STEP_PAGES: i32 = 1024;

/// The wait for a locked database.
const LOCKED_WAIT: Duration = Duration::from_millis(10);

/// Copies a database, page by page.
pub(crate) fn copy_database(from: &Connection, to: &mut Connection) -> Result<(), StoreError> {
    let backup = Backup::new(from, to)?;
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => std::thread::sleep(LOCKED_WAIT),
        }
    }
}

/// Keeps a copy of a database beside it, as it is before a migration.
pub(crate) fn keep_copy(connection: &Connection, path: &Path, version: usize) -> Result<(), StoreError> {
    let mut kept = path.to_owned().into_os_string();
    kept.push(format!(".version-{version}"));
    let kept = PathBuf::from(kept);
    if kept.exists() {
        return Ok(());
    }
    let mut partial = kept.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |source| StoreError::CopyBeforeMigration { path: kept.clone(), source: Box::new(source) };
    let file = |source| StoreError::File { path: partial.clone(), source };
    let copied = (|| {
        // A killed process may have left a part.
        private_file_options().write(true).truncate(true).open(&partial).map_err(file)?;
        let mut copy = Connection::open(&partial)?;
        copy_database(connection, &mut copy)?;
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error)?;
        sync(&partial)?;
        fs::rename(&partial, &kept).map_err(file)?;
        sync(&kept)
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied.map_err(failed)
}
