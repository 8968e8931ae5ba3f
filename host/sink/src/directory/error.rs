//! Errors of a directory. The file system does not say which of them a retry can mend, so tasks retry all.

use std::io;
use std::path::Path;

use crate::error::SinkError;

/// Returns the error of a folder that does not exist.
pub(super) fn no_bucket(root: &Path) -> SinkError {
    SinkError::NoBucket(format!(
        "folder {0} does not exist: a bucket of this destination is a folder. Create it with mkdir -p {0}",
        root.display()
    ))
}

/// Returns a conversion of I/O errors at a path.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> SinkError {
    |error| SinkError::io(path, error)
}

/// Converts the error of a missing file to `None`.
pub(super) fn found<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ignores the error of a file system that can't sync folders.
pub(super) fn synced(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}
