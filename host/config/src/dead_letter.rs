//! The place of dead letters.

use std::path::PathBuf;

use serde::Deserialize;

/// Settings of the dead letter location: a folder, or a bucket of a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// The folder.
    pub path: Option<PathBuf>,
    /// The name of a destination, instead of a folder.
    pub destination: Option<String>,
    /// The bucket of that destination.
    pub bucket: String,
    /// Prefix of the object keys.
    pub prefix: String,
}
