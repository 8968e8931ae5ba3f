//! Opens a directory.

use std::path::{Path, PathBuf};

use super::sink::Directory;
use crate::object::BucketLocation;

/// Opens a bucket of a destination: a folder of the directory at `path`.
pub(crate) fn open(path: &Path, location: &BucketLocation<'_>) -> Directory {
    let folder = path.join(location.bucket);
    if location.must_exist { Directory::existing(folder) } else { Directory::new(folder) }
}

impl Directory {
    /// Uses the directory at `root`, created with the first object.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::at(root.into(), false)
    }

    /// Uses the directory at `root`, which must exist, like a bucket.
    pub fn existing(root: impl Into<PathBuf>) -> Self {
        Self::at(root.into(), true)
    }
}
