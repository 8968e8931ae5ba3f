//! Rows of tables.
//!
//! # Layout
//! - [`encode`]: turns the logs of a shard into blocks of rows. [`dirty`]: logs that have no row.
//!   `encode_maxcompute`: the input of MaxCompute's row encoder.
//! - [`maxcompute`]: rules that write rows to MaxCompute.
//! - [`sources`]: the data sources that rules and jobs name. [`source_check`]: connects to them.
//! - [`table_store`]: rules that write rows to Table Store.
//! - [`jobs`]: synchronization jobs, and their runs.
//! - [`resend`]: puts dirty rows back into their table.

mod candidate;
pub mod dirty;
pub mod encode;
mod encode_maxcompute;
pub mod jobs;
pub mod maxcompute;
pub mod resend;
pub mod source_check;
pub mod sources;
pub mod table_store;

pub use dirty::DirtyRow;
pub use encode::{Block, BlockEncoder, BlockError, RowEncoding, RowEncodingError, RowWriter};
pub use sources::{ServiceSources, Sources};
pub use table_store::TableStoreRules;
