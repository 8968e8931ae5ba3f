//! Plans of runs: everything that decides the rows, fixed on disk before the first byte is uploaded.

use logship_config::column_mapping::ColumnMapping;
use logship_config::maxcompute::Protocol;
use logship_sink::maxcompute::{MAX_BLOCKS, TableRef, TableSchema};
use serde::{Deserialize, Serialize};

/// The smallest size of a block, in bytes of logs.
pub const MIN_BLOCK_BYTES: u64 = 16 << 20;

/// Everything that decides the rows of a run, and the blocks that they are uploaded in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// The window.
    pub window: Window,
    /// The project of the Logstore.
    pub project: String,
    /// The Logstore.
    pub logstore: String,
    /// The data source of a Logstore at another endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteSource>,
    /// The range of each shard that has logs in the window.
    pub shards: Vec<ShardRange>,
    /// The data source of the table.
    pub source: String,
    /// The table and the partition.
    pub table: TableRef,
    /// The columns of the table.
    pub schema: TableSchema,
    /// The value of each column.
    pub mapping: ColumnMapping,
    /// The digest of the row encoder.
    pub stage: String,
    /// The format of the blocks.
    pub protocol: Protocol,
    /// The offset from UTC of times in the logs that name none: `+08:00`.
    pub utc_offset: String,
    /// The size of a block, in bytes of logs.
    pub block_bytes: u64,
    /// The number of block ids of each shard.
    pub stride: u32,
}

/// The data source of a Logstore at another endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteSource {
    /// The project that has the data source.
    pub project: String,
    /// Its name.
    pub name: String,
}

/// A range of time, by arrival of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The begin, in Unix seconds.
    pub begin: u64,
    /// The end, exclusive, in Unix seconds.
    pub end: u64,
}

/// The range of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRange {
    /// The shard.
    pub shard: u32,
    /// The cursor of the first log group.
    pub begin: u64,
    /// The end cursor, exclusive.
    pub end: u64,
    /// The bytes of the logs before compression.
    pub bytes: u64,
}

impl Window {
    /// Returns true if two windows have a time in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.begin < other.end && other.begin < self.end
    }
}

impl RunPlan {
    /// Parses a stored plan.
    ///
    /// # Errors
    /// If another version of logship wrote it.
    pub fn parse(content: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(content)
    }

    /// Returns the plan as it is stored.
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the id of a block of a shard, by the shard's place in the plan and the block's number.
    pub fn block_id(&self, ordinal: usize, number: u32) -> Option<u32> {
        (number < self.stride).then(|| ordinal as u32 * self.stride + number)
    }
}

/// Returns the number of block ids of each of `shards` shards, and the size of the blocks, for the largest shard. The ids
/// suffice with a margin.
pub fn block_layout(shards: usize, largest_shard: u64) -> (u32, u64) {
    let stride = MAX_BLOCKS / (shards.max(1) as u32).min(MAX_BLOCKS);
    let margin = 2;
    (stride, MIN_BLOCK_BYTES.max(largest_shard.saturating_mul(margin) / u64::from(stride)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_shards_have_ids_of_their_own() {
        let (stride, bytes) = block_layout(8, 1 << 30);
        assert_eq!((stride, bytes), (2500, MIN_BLOCK_BYTES));
        let (stride, bytes) = block_layout(256, 100 << 30);
        assert_eq!(stride, 78);
        assert!(u64::from(stride) * bytes >= 199 << 30, "{bytes}");
        assert_eq!(block_layout(0, 0), (MAX_BLOCKS, MIN_BLOCK_BYTES));
        assert_eq!(block_layout(20_000, 1).0, 1);
    }

    #[test]
    fn windows_overlap_only_in_common_seconds() {
        let window = |begin, end| Window { begin, end };
        assert!(window(0, 5).overlaps(window(4, 6)) && window(0, 9).overlaps(window(4, 6)));
        assert!(!window(0, 5).overlaps(window(5, 9)) && !window(5, 9).overlaps(window(0, 5)));
        assert!(!window(5, 5).overlaps(window(5, 9)));
    }
}
