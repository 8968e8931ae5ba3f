//! Consumer groups, their checkpoints and their status.

/// A consumer group of a logstore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroup {
    pub(crate) id: i64,
    /// The name.
    pub name: String,
    /// The heartbeat timeout of a consumer, in seconds.
    pub timeout: u32,
    /// True if members get the shards of a split or merge only after its parents have been read to the end.
    pub ordered: bool,
    /// The ID of the access key that created the group; none for groups of older versions.
    pub creator: Option<String>,
}

/// The checkpoint of a group in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard number.
    pub shard: u32,
    /// The next position to read, if a checkpoint was ever saved.
    pub position: Option<u64>,
    /// The time of the last save, in Unix microseconds; 0 if there was none.
    pub updated: u64,
    /// The consumer that saved it; empty if there was none.
    pub consumer: String,
}

/// The status of a group in a shard.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The consumer to which the shard is assigned.
    pub owner: Option<String>,
    /// The number of unread log groups.
    pub unread_groups: u64,
    /// The lag in seconds of log time: from the newest read log to the newest log. If nothing was read yet, from the
    /// oldest group.
    pub lag_seconds: u64,
}
