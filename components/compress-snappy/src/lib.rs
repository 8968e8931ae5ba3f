//! The stage `compress-snappy`: the object as a whole becomes one raw snappy block, what
//! `snappy::Compress` of the C++ library gives: no framing, no stream header.
//!
//! A raw block is its uncompressed length and then a body, which every implementation makes of
//! pieces of 64 KiB that know nothing of each other. So the body is made piece by piece as the bytes
//! come, and the length is handed over at the end, as the object's header.
//!
//! - [`config`](Config): nothing to choose.
//! - [`compressor`](SnappyCompressor): pieces into body, and the header.

mod compressor;
mod config;

pub use compressor::SnappyCompressor;
pub use config::Config;

logship_stage::export_compressor!(SnappyCompressor);
