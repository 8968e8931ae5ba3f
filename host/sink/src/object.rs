//! Sinks: stores of objects, each under a key of its own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::staged_file::{FinishedFile, StagedFile};

/// A store of objects under keys. Objects appear atomically and are never overwritten. Methods block.
pub trait ObjectSink: fmt::Debug + Send + Sync {
    /// Begins an object. Reserves `header_room` bytes at its beginning.
    ///
    /// # Errors
    /// [`SinkError::Full`], [`SinkError::Io`] or [`SinkError::NoBucket`].
    fn begin(&self, key: &str, header_room: usize) -> Result<StagedFile, SinkError>;

    /// Publishes an object atomically. Never overwrites another object.
    ///
    /// # Errors
    /// [`SinkError::Exists`] if the key is taken; the other variants if the object could not be stored.
    fn publish(
        &self,
        file: FinishedFile,
        key: &str,
        media_type: &str,
        provenance: &Provenance,
    ) -> Result<(), SinkError>;

    /// Returns size and digest of the object with this key. Reads the whole object.
    ///
    /// # Errors
    /// If the object can't be read. A missing object is `None`.
    fn find(&self, key: &str) -> Result<Option<ObjectInfo>, SinkError>;

    /// Returns the keys of all objects with this prefix.
    ///
    /// # Errors
    /// If the store can't be listed.
    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError>;

    /// Reads an object.
    ///
    /// # Errors
    /// If the object is missing or can't be read.
    fn read(&self, key: &str) -> Result<Vec<u8>, SinkError>;

    /// Deletes an object.
    ///
    /// # Errors
    /// If the object can't be deleted.
    fn delete(&self, key: &str) -> Result<(), SinkError>;

    /// Checks that objects can be written below a prefix.
    ///
    /// # Errors
    /// The reason why they can't.
    fn probe(&self, prefix: &str) -> Result<(), SinkError>;
}

/// Size and digest of an object in a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// Origin of an object, for its metadata: names and values.
pub type Provenance = Vec<(&'static str, String)>;

/// An error of a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The bucket does not exist, or is in another region.
    #[error("{0}")]
    NoBucket(String),
    /// The credentials are invalid, or lack the permission.
    #[error("{0}")]
    Denied(String),
    /// The key belongs to another object.
    #[error(
        "{0} already exists and was not overwritten. Keys must be unique: include the time and the number of the task, or choose another prefix"
    )]
    Exists(String),
    /// The disk is full.
    #[error("no space left to write {}. No partial object remains", .0.display())]
    Full(PathBuf),
    /// Another I/O error.
    #[error("can't write {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The settings of the sink are invalid.
    #[error("destination: {0}")]
    Settings(String),
    /// The store is unreachable or has an internal error.
    #[error("{0}")]
    Unavailable(String),
    /// A function delivered the object to a store that the settings don't name.
    #[error(
        "can't read the object: {0} delivered it to a store that this service does not know. Set `store` in the destination's settings"
    )]
    UnknownStore(String),
}

impl SinkError {
    /// Converts an I/O error at a path.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists(path.display().to_string()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(format!("can't write {}: {source}", path.display()))
            }
            _ => Self::Io { path, source },
        }
    }

    /// Returns the corresponding error code of Log Service.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoBucket(_) => "InvalidOssBucket",
            Self::Denied(_) => "UnAuthorized",
            _ => "InternalServerError",
        }
    }
}

/// The store of a function that delivers its objects itself, if the settings don't name that store. Each operation
/// fails with [`SinkError::UnknownStore`].
#[derive(Debug)]
pub struct UnknownStore {
    /// The function, for error messages.
    pub function: String,
}

impl UnknownStore {
    fn fail<T>(&self) -> Result<T, SinkError> {
        Err(SinkError::UnknownStore(self.function.clone()))
    }
}

impl ObjectSink for UnknownStore {
    fn begin(&self, _: &str, _: usize) -> Result<StagedFile, SinkError> {
        self.fail()
    }

    fn publish(&self, _: FinishedFile, _: &str, _: &str, _: &Provenance) -> Result<(), SinkError> {
        self.fail()
    }

    fn find(&self, _: &str) -> Result<Option<ObjectInfo>, SinkError> {
        self.fail()
    }

    fn list(&self, _: &str) -> Result<Vec<String>, SinkError> {
        self.fail()
    }

    fn read(&self, _: &str) -> Result<Vec<u8>, SinkError> {
        self.fail()
    }

    fn delete(&self, _: &str) -> Result<(), SinkError> {
        self.fail()
    }

    fn probe(&self, _: &str) -> Result<(), SinkError> {
        self.fail()
    }
}
