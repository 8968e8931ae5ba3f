//! Sinks that store objects, each under a key of its own.

use std::path::Path;

use tokio::runtime::Handle;

use crate::error::SinkError;
use crate::sink::Sink;
use crate::staged_file::{FinishedFile, StagedFile};

/// A store of objects under keys. Objects appear atomically and are never overwritten. Methods block.
pub trait ObjectSink: Sink {
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
}

/// Size and digest of an object in a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// The heads in its metadata, if it has them.
    pub heads: Option<ObjectHeads>,
}

/// The heads of a shard's hash chain before and after the logs of an object, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHeads {
    /// The head before the logs.
    pub before: String,
    /// The head after the logs.
    pub after: String,
}

/// The name of the head before the logs, in the metadata of objects.
pub const HEAD_BEFORE: &str = "logship-head-before";
/// The name of the head after the logs, in the metadata of objects.
pub const HEAD: &str = "logship-head";

/// Origin of an object, for its metadata: names and values.
pub type Provenance = Vec<(&'static str, String)>;

/// The bucket of a destination.
#[derive(Debug, Clone)]
pub struct BucketLocation<'a> {
    /// Name of the bucket.
    pub bucket: &'a str,
    /// Role to assume. Empty: the role in the destination's settings.
    pub role: &'a str,
    /// Folder of staged files.
    pub spool: &'a Path,
    /// Runtime of the requests.
    pub runtime: Handle,
    /// True if the bucket is a rule's. Its name is checked then, and a directory does not create it.
    pub must_exist: bool,
}
