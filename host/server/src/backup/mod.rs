//! Backups of a data directory, while the service runs, and their restore.
//!
//! A backup has the database, the access keys, the components of stages, and the digest of the settings. It does not
//! have delivered objects, dead letters and the spool.

mod create;
mod manifest;
mod restore;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use logship_logstore::StoreError;

pub(crate) use create::back_up;
pub use create::back_up_stopped;
pub use manifest::{BackupFile, Manifest};
pub use restore::restore;

/// Why a backup can't be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target directory has files.
    #[error("{} is not empty: {advice}", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// The path of a backup is relative.
    #[error("{} is a relative path: use an absolute one", .0.display())]
    Relative(PathBuf),
    /// The directory has no manifest.
    #[error("{} is no complete backup: it has no backup.json, which `logship backup` writes last", .0.display())]
    Incomplete(PathBuf),
    /// A file of the backup was changed.
    #[error("the backup is damaged: {}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The database can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}

/// Creates an empty directory that only its owner can read. It may exist if it is empty. Returns true if it is new.
fn create_directory(path: &Path, advice: &'static str) -> Result<bool, BackupError> {
    let failed = |source| BackupError::file(path, source);
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(BackupError::NotEmpty { path: path.into(), advice }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            Ok(true)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a new file that only its owner can read, and syncs it to the disk.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), io::Error> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Copies a file to a new one that only its owner can read, and syncs it to the disk.
fn copy_private(from: &Path, to: &Path) -> Result<(), BackupError> {
    let source = |error| BackupError::file(from, error);
    let mut from = File::open(from).map_err(source)?;
    let copied = File::options().write(true).create_new(true).mode(0o600).open(to).and_then(|mut file| {
        io::copy(&mut from, &mut file)?;
        file.sync_all()
    });
    copied.map_err(|error| BackupError::file(to, error))
}

/// Removes everything in a directory.
fn remove_content(directory: &Path) -> Result<(), io::Error> {
    fs::read_dir(directory)?.try_for_each(|entry| remove(&entry?.path()))
}

fn remove(path: &Path) -> Result<(), io::Error> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
