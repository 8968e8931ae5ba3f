//! Filters and counts of tasks.

use super::Status;

/// A filter of tasks. `None` matches everything.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// The project.
    pub project: Option<String>,
    /// The logstore.
    pub logstore: Option<String>,
    /// The name of the rule.
    pub rule: Option<String>,
    /// The shard number.
    pub shard: Option<u32>,
    /// The status.
    pub status: Option<Status>,
    /// The earliest creation time, in Unix seconds.
    pub from: Option<u64>,
    /// The latest creation time, in Unix seconds, inclusive.
    pub to: Option<u64>,
}

/// The numbers of tasks by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// Running tasks.
    pub running: u64,
    /// Successful tasks.
    pub success: u64,
    /// Failed tasks.
    pub failed: u64,
}
