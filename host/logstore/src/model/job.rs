//! Synchronization jobs.

use serde_json::Value;

/// A job of a project. The store keeps its configuration without interpreting it.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncJob {
    pub(crate) id: i64,
    /// The project.
    pub project: String,
    /// The name.
    pub name: String,
    /// The configuration.
    pub configuration: Value,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
    /// The next scheduled time, in Unix seconds.
    pub next: Option<u64>,
    /// The number of missed runs that were too many to catch up.
    pub skipped: u64,
    /// True if another life of the store may have run the job. It waits for an operator.
    pub waits: bool,
}

impl SyncJob {
    /// Returns the number of the job. Numbers are never reused.
    pub fn number(&self) -> i64 {
        self.id
    }
}

/// The logs that a job has not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The project of the Logstore.
    pub project: String,
    /// The Logstore.
    pub logstore: String,
    /// The receipt of the first of them, in Unix seconds.
    pub since: u64,
}
