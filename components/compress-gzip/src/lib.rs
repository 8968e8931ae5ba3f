//! The stage `compress-gzip`: the object as one gzip member, which everything reads.
//!
//! Its header holds neither time nor name, so the same bytes give the same object at any time.
//!
//! Deflate is flate2's with zlib-rs, which is Rust, builds for wasm without a C compiler, and is
//! twice as fast there as miniz_oxide, for one byte in a hundred more.
//!
//! - [`config`](Config): the level.
//! - [`compressor`](GzipCompressor): the member.

mod compressor;
mod config;

pub use compressor::GzipCompressor;
pub use config::Config;

logship_stage::export_compressor!(GzipCompressor);
