//! Rows of tables.
//!
//! # Layout
//! - [`encode`]: turns the logs of a shard into blocks of rows. [`dirty`]: logs that have no row.
//! - [`sources`]: the data sources that rules and jobs name. [`source_check`]: connects to them.

pub mod dirty;
pub mod encode;
pub mod source_check;
pub mod sources;

pub use dirty::DirtyRow;
pub use encode::{Block, BlockEncoder, BlockError, RowEncoding, RowEncodingError, RowWriter};
pub use sources::{ServiceSources, Sources};
