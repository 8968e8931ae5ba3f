//! The wire protocol of Log Service (SLS), without networking: parses and encodes requests and replies.
//!
//! All input is untrusted. No function panics or recurses on it, and sizes are checked before memory is allocated.
//! Clients and the server share this code.
//!
//! # Layout
//! - [`log_group`]: log groups, lists of them, and packages, in protobuf. Parsing is zero-copy.
//! - [`compression`]: compression of bodies. [`gzip`]: gzip data of several members.
//! - [`lz4_splice`]: concatenation of LZ4 blocks, so that a pull needs no compression.
//! - [`cursor`]: positions in a shard.
//! - [`hash_key`]: hash keys, which assign logs to shards.
//! - [`query`]: URL queries.
//! - [`signature`]: request signatures, versions 1 and 4.
//! - [`error`]: API errors.

pub mod compression;
pub mod cursor;
pub mod error;
pub mod gzip;
pub mod hash_key;
pub mod header;
pub mod log_group;
pub mod lz4_splice;
pub mod query;
pub mod signature;
