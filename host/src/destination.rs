//! Where objects go: a local directory, a bucket of an object store, or to wherever a function brings them.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, Remote};
use crate::directory::Directory;
use crate::function::{CallError, Function, FunctionConfig};
use crate::part::{Part, Whole};

/// Where objects go.
#[derive(Debug)]
pub enum Destination {
    /// A local directory.
    Directory(Directory),
    /// A bucket of an object store.
    Bucket(Bucket),
    /// A function makes them, and brings them to their place. What else is asked of it, the place is asked, if it is
    /// known.
    Function(Box<Function>),
}

/// A destination as settings have it, in which rules name a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// A directory: its folders are the buckets.
    Directory {
        /// Where it is.
        path: PathBuf,
    },
    /// Amazon S3, or what speaks as it does.
    S3(Remote),
    /// Alibaba Cloud OSS.
    Oss(Remote),
    /// Functions, which are called with the logs.
    Function(FunctionConfig),
}

impl DestinationConfig {
    /// Whether it has a key in it.
    pub(crate) fn has_secret(&self) -> bool {
        match self {
            Self::Directory { .. } => false,
            Self::S3(remote) | Self::Oss(remote) => {
                remote.access_key_secret.is_some()
                    || remote.security_token.is_some()
                    || remote.encryption_key.is_some()
            }
            Self::Function(function) => function.token.is_some(),
        }
    }
}

/// What is at a destination under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256 of them, in hexadecimal.
    pub sha256: String,
}

/// Where an object comes from, for its metadata: names and values.
pub type Provenance = Vec<(&'static str, String)>;

/// Why an object is not at its destination.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// There is no such bucket, or it is in another region.
    #[error("{0}")]
    NoBucket(String),
    /// The credentials don't serve, or don't allow it.
    #[error("{0}")]
    Denied(String),
    /// There is another object with this key.
    #[error(
        "{0} is there already, and was left as it is. A key must be an object's own: have the time and the number of the task in it, or choose another prefix"
    )]
    Exists(String),
    /// The disk is full.
    #[error("no space is left to write {}. No half object is left", .0.display())]
    Full(PathBuf),
    /// The disk failed otherwise.
    #[error("can't write {}: {source}", path.display())]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The settings of the destination are wrong.
    #[error("destination: {0}")]
    Settings(String),
    /// The store is not reached, or not well.
    #[error("{0}")]
    Remote(String),
    /// A function made no object, or did not say so.
    #[error(transparent)]
    Function(#[from] CallError),
    /// Nobody said where a function puts its objects.
    #[error(
        "it can't be looked at: {0} has put it where this service does not look. Name a `store` in the destination's settings"
    )]
    Unseen(String),
}

impl DestinationError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
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

    /// What Log Service calls it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoBucket(_) => "InvalidOssBucket",
            Self::Denied(_) => "UnAuthorized",
            Self::Function(error) => error.code(),
            _ => "InternalServerError",
        }
    }
}

impl Destination {
    /// Begins an object. `header_room` bytes are kept free at its beginning.
    pub fn begin(&self, key: &str, header_room: usize) -> Result<Part, DestinationError> {
        match self {
            Self::Directory(directory) => directory.begin(key, header_room),
            Self::Bucket(bucket) => bucket.begin(header_room),
            Self::Function(function) => function.store()?.begin(key, header_room),
        }
    }

    /// Brings an object to its place, whole or not at all, and never in the place of another.
    pub fn publish(
        &self,
        whole: Whole,
        key: &str,
        media_type: &str,
        provenance: &Provenance,
    ) -> Result<(), DestinationError> {
        match self {
            Self::Directory(directory) => directory.publish(whole, key),
            Self::Bucket(bucket) => bucket.publish(&whole, key, media_type, provenance),
            Self::Function(function) => function.store()?.publish(whole, key, media_type, provenance),
        }
    }

    /// What is there under a key. It is read for it, whole.
    pub fn find(&self, key: &str) -> Result<Option<Found>, DestinationError> {
        match self {
            Self::Directory(directory) => directory.find(key),
            Self::Bucket(bucket) => bucket.find(key),
            Self::Function(function) => function.store()?.find(key),
        }
    }

    /// The keys of all objects below a prefix.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, DestinationError> {
        match self {
            Self::Directory(directory) => directory.list(prefix),
            Self::Bucket(bucket) => bucket.list(prefix),
            Self::Function(function) => function.store()?.list(prefix),
        }
    }

    /// The bytes of an object.
    pub fn read(&self, key: &str) -> Result<Vec<u8>, DestinationError> {
        match self {
            Self::Directory(directory) => directory.read(key),
            Self::Bucket(bucket) => bucket.read(key),
            Self::Function(function) => function.store()?.read(key),
        }
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) -> Result<(), DestinationError> {
        match self {
            Self::Directory(directory) => directory.delete(key),
            Self::Bucket(bucket) => bucket.delete(key),
            Self::Function(function) => function.store()?.delete(key),
        }
    }

    /// Tries whether objects can be written below a prefix. Of a function only its store is tried.
    pub fn probe(&self, prefix: &str) -> Result<(), DestinationError> {
        match self {
            Self::Directory(directory) => directory.probe(),
            Self::Bucket(bucket) => bucket.probe(prefix),
            Self::Function(function) => function.store()?.probe(prefix),
        }
    }
}
