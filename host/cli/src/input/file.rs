//! Input files.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// An error of the inputs that a user named.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file is missing, or can't be opened.
    #[error("can't read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A directory has no files to read.
    #[error("{}: this directory has no files with logs{passed_over}", path.display())]
    NoFiles {
        /// The directory.
        path: PathBuf,
        /// The files that were passed over, with the reasons.
        passed_over: String,
    },
    /// The objects would be written among the logs, and read as logs by the next run.
    #[error("{}: the input directory is also the output directory: choose another directory for the objects", .0.display())]
    IsOutput(PathBuf),
}

impl InputError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// The identity of a file, which all its links share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A log file, or standard input (`-`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub(super) path: PathBuf,
    /// The size and the identity; `None` for standard input, pipes and devices.
    pub(super) file: Option<(u64, FileId)>,
}

impl Input {
    pub(super) fn new(path: PathBuf, metadata: &Metadata) -> Self {
        Self { path, file: metadata.is_file().then(|| (metadata.len(), FileId::of(metadata))) }
    }

    pub(super) fn standard_input() -> Self {
        Self { path: "-".into(), file: None }
    }

    /// Returns the size on disk in bytes, or `None` for standard input, pipes and devices.
    pub fn bytes(&self) -> Option<u64> {
        self.file.map(|(bytes, _)| bytes)
    }

    pub(super) fn open(&self) -> io::Result<File> {
        if self.path == Path::new("-") {
            return Ok(io::stdin().as_fd().try_clone_to_owned()?.into());
        }
        let Some((_, id)) = self.file else { return File::open(&self.path) };
        match open_if(&self.path, id) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => self.open_renamed(id)?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "another file took its place before it was read")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self
                .open_renamed(id)?
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it vanished before it was read")),
            Err(error) => Err(error),
        }
    }

    /// Finds the file in its folder by its identity: log rotation renames files.
    fn open_renamed(&self, id: FileId) -> io::Result<Option<File>> {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|metadata| FileId::of(&metadata) == id) {
                return open_if(&entry.path(), id);
            }
        }
        Ok(None)
    }
}

/// Opens a file, unless the path belongs to another one by now. A pipe does not block.
fn open_if(path: &Path, id: FileId) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok((FileId::of(&file.metadata()?) == id).then_some(file))
}
