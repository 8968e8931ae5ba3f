//! The progress of a run: the blocks of each shard that the session has.

use std::collections::BTreeMap;

use logship_logstore::LogPosition;
use serde::{Deserialize, Serialize};

/// The progress of all shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The shards that have blocks, or are done.
    pub shards: BTreeMap<u32, ShardProgress>,
}

/// The progress of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardProgress {
    /// The cursor of the next log group.
    pub cursor: u64,
    /// The number of its logs that are in blocks already.
    pub log: u32,
    /// The number of blocks.
    pub blocks: u32,
    /// The number of rows.
    pub rows: u64,
    /// The number of dirty rows.
    pub dirty: u64,
    /// The bytes of the blocks.
    pub bytes: u64,
    /// The bytes of the logs.
    pub log_bytes: u64,
    /// True if all logs of the shard are in blocks.
    pub is_done: bool,
    /// The reason of the first dirty row.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub first_dirty: String,
}

impl ShardProgress {
    /// The position of the next log.
    pub fn position(&self) -> LogPosition {
        LogPosition { cursor: self.cursor, log: self.log }
    }
}

impl RunProgress {
    /// Parses the stored progress. None is no progress.
    pub fn parse(content: Option<&str>) -> Self {
        content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default()
    }

    /// Returns the progress as it is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.shards.values().map(|shard| shard.rows).sum()
    }

    /// The number of dirty rows.
    pub fn dirty(&self) -> u64 {
        self.shards.values().map(|shard| shard.dirty).sum()
    }

    /// The reason of the first dirty row.
    pub fn first_dirty(&self) -> &str {
        self.shards
            .values()
            .map(|shard| shard.first_dirty.as_str())
            .find(|first| !first.is_empty())
            .unwrap_or_default()
    }
}
