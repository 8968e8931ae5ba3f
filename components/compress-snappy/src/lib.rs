//! The stage `compress-snappy`: compresses an object as one raw snappy block, like `snappy::Compress` of the C++
//! library: no framing, no stream header.
//!
//! A raw block is its uncompressed length followed by a body. Every implementation compresses the body in independent
//! pieces of 64 KiB. So this stage compresses piece by piece as bytes arrive, and returns the length at the end, as
//! the object's header.
//!
//! - [`config`](Config): no settings.
//! - [`compressor`](SnappyCompressor): compresses the pieces; makes the header.

mod compressor;
mod config;

pub use compressor::SnappyCompressor;
pub use config::Config;

logship_stage::export_compressor!(SnappyCompressor);
