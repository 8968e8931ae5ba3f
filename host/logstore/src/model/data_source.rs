//! Data sources of projects.

use serde_json::Value;

/// A data source of a project. The store keeps its content without interpreting it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSource {
    /// The name.
    pub name: String,
    /// The description and the connection, with their secrets.
    pub content: Value,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
}
