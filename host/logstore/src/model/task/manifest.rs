//! Object manifests: the durable record of a task's objects.

use serde::{Deserialize, Serialize};

/// The durable record of a task's objects, saved before they get their names. The default is the manifest of a task
/// without objects, because its stages filtered all logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectManifest {
    /// The number of logs.
    pub rows: u64,
    /// The size of the objects before compression, in bytes.
    pub raw_bytes: u64,
    /// The size of the objects, in bytes.
    pub stored_bytes: u64,
    /// The SHA-256 of the first object, in hexadecimal; empty if there are no objects.
    pub sha256: String,
    /// The objects, if their keys depend on the logs. If empty, the task has at most one object, with the key of the
    /// task.
    pub objects: Vec<ManifestEntry>,
}

/// The record of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The key.
    pub object: String,
    /// The number of logs.
    pub rows: u64,
    /// The size before compression, in bytes.
    pub raw_bytes: u64,
    /// The size, in bytes.
    pub stored_bytes: u64,
    /// The SHA-256, in hexadecimal.
    pub sha256: String,
}

impl ObjectManifest {
    /// Creates the manifest of a task with these objects.
    pub fn from_entries(objects: Vec<ManifestEntry>) -> Self {
        let sum = |field: fn(&ManifestEntry) -> u64| objects.iter().map(field).sum();
        Self {
            rows: sum(|object| object.rows),
            raw_bytes: sum(|object| object.raw_bytes),
            stored_bytes: sum(|object| object.stored_bytes),
            sha256: objects.first().map(|object| object.sha256.clone()).unwrap_or_default(),
            objects,
        }
    }

    /// Returns true if the task has an object.
    pub fn has_object(&self) -> bool {
        !self.sha256.is_empty()
    }
}
