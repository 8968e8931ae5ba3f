//! The stage `compress-gzip`: compresses an object as one gzip member, which all tools read.
//!
//! The header has neither time nor name, so the same bytes always give the same object.
//!
//! Deflate comes from flate2 with zlib-rs. zlib-rs is written in Rust, builds for wasm without a C compiler, and is
//! twice as fast there as miniz_oxide, with 1 % larger output.
//!
//! - [`config`](Config): the level.
//! - [`compressor`](GzipCompressor): the member.

mod compressor;
mod config;

pub use compressor::GzipCompressor;
pub use config::Config;

logship_stage::export_compressor!(GzipCompressor);
