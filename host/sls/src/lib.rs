//! The wire of Log Service, without a network: what requests and replies carry, read and written.
//!
//! Everything here takes bytes from strangers, so nothing panics on them, nothing recurses, and memory is
//! bounded by sizes that were checked before. Clients and the server use the same code.
//!
//! # Layout
//! - [`log_group`]: groups of logs, their lists and packages, in protobuf; read without copying.
//! - [`compression`]: the compressions of bodies.
//! - [`lz4_splice`]: LZ4 blocks joined as they are, so that a pull needs no compression.
//! - [`cursor`]: positions within a shard.
//! - [`hash_key`]: which shard a log belongs to.
//! - [`query`]: the query of a URL.
//! - [`signature`]: who sent a request, in both versions of signing.
//! - [`error`]: what a request is refused with.

pub mod compression;
pub mod cursor;
pub mod error;
pub mod hash_key;
pub mod log_group;
pub mod lz4_splice;
pub mod query;
pub mod signature;
