//! The stage `compress-zstd`: the object as one zstd frame with a checksum.
//!
//! One frame and not several, because some readers stop behind the first (python-zstandard does
//! unless told otherwise). Its header does not say how long the content is: that is known only at
//! the end, and the format does not ask for it.
//!
//! # Which zstd
//! The library that is Rust, has zstd's levels, and compresses a stream within a window:
//! structured-zstd. ruzstd, which it was forked from, has the fastest level only and wants the
//! whole of a frame; libzstd-rs-sys is a translation of the C library, not finished yet. What comes
//! out is read back by the C library in the tests.
//!
//! - [`config`](Config): the level.
//! - [`compressor`](ZstdCompressor): the frame.

mod compressor;
mod config;

pub use compressor::ZstdCompressor;
pub use config::Config;

logship_stage::export_compressor!(ZstdCompressor);
