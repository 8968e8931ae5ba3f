//! The location of dead letters.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// The location of dead letters: events that a receiver rejects permanently.
///
/// It is a directory, or a bucket of a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// The directory. Default: `dead-letters` in the data directory. Ignored if `destination` is set.
    pub path: Option<PathBuf>,
    /// The name of a destination, instead of a directory. It must not be a function.
    pub destination: Option<String>,
    /// The bucket of that destination.
    pub bucket: String,
    /// The prefix of the object keys.
    pub prefix: String,
}
