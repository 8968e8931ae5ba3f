//! Shards to read.
//!
//! # Layout
//! - [`shard_reader`]: chunks of a shard's logs as batches, for stages in this process.
//! - [`group_list`]: log groups of a shard as one compressed list, for calls of functions.

pub mod group_list;
pub mod shard_reader;
