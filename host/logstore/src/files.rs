//! Files and directories that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::StoreError;

/// Returns options that create a missing file readable only by its owner.
pub(crate) fn private_file_options() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).mode(0o600);
    options
}

/// Creates a directory that only its owner can read, unless it exists.
pub(crate) fn create_private_directory(directory: &Path) -> Result<(), std::io::Error> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(directory)
}

/// Syncs a file, and its name, to the disk.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.map_or(Ok(()), |directory| File::open(directory)?.sync_all()).map_err(failed)
}
