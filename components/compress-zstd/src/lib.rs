//! The stage `compress-zstd`: compresses an object as one zstd frame with a checksum.
//!
//! It writes a single frame because some readers stop after the first one (python-zstandard by default). The frame
//! header has no content size: the size is known only at the end, and the format does not require it.
//!
//! # Choice of library
//! structured-zstd is written in Rust, has zstd's levels, and compresses a stream within a window. ruzstd, from which
//! it was forked, has only the fastest level and needs the complete frame. libzstd-rs-sys, a translation of the C
//! library, is unfinished. The tests decompress the output with the C library.
//!
//! - [`config`](Config): the level.
//! - [`compressor`](ZstdCompressor): the frame.

mod compressor;
mod config;

pub use compressor::ZstdCompressor;
pub use config::Config;

logship_stage::export_compressor!(ZstdCompressor);
