//! The backlog of a shard: log groups that are not in a task yet.

/// The backlog of a shard from a position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// The end of the measured range, exclusive.
    pub next: u64,
    /// The size before compression, in bytes.
    pub bytes: u64,
    /// The time of receipt of the first log group, in Unix seconds; 0 if the backlog is empty.
    pub oldest: u64,
    /// The time of receipt of the last log group, in Unix seconds; 0 if the backlog is empty.
    pub newest: u64,
}
