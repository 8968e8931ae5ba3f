//! Reads logs from files, directories and standard input.
//!
//! A [`Listing`] finds the files. [`Blocks`] opens one after the other (`stream`), looks at its beginning (`content`),
//! decompresses and decodes it, and cuts it into blocks of complete records (`cutter`), which workers parse.
//!
//! Of a damaged file, the blocks before the damage are returned, then the reason; the next files are read. Everything that
//! is skipped is reported: [`Unread`] has the files and the reasons, [`rejects`] the lines.

mod blocks;
mod content;
mod copies;
mod cutter;
mod file;
mod fingerprint;
mod listing;
mod open_file;
pub mod rejects;
mod stream;
mod unread;

pub use blocks::{Block, Blocks, RecordOptions, Records};
pub use file::{Input, InputError};
pub use listing::Listing;
pub use unread::{NotLogs, Unread};
