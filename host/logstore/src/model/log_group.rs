//! Log groups: the unit of a put.

use bytes::Bytes;

/// A log group to store. The caller guarantees that the other fields describe the body.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// The protobuf LogGroup, as one LZ4 block.
    pub body: Bytes,
    /// The size before compression, in bytes.
    pub size: u32,
    /// The number of logs.
    pub logs: u32,
    /// The time of the newest log, in Unix seconds.
    pub newest: u32,
}

/// A stored log group.
#[derive(Debug, Clone, Copy)]
pub struct StoredGroup<'a> {
    /// The position in the shard.
    pub position: u64,
    /// The time of receipt, in Unix seconds.
    pub received: u64,
    /// The time of the newest log, in Unix seconds.
    pub newest: u32,
    /// The number of logs.
    pub logs: u32,
    /// The size before compression, in bytes.
    pub size: u32,
    /// The protobuf LogGroup, as one LZ4 block.
    pub body: &'a [u8],
}
