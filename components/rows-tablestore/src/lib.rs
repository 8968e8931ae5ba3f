//! The stage `rows-tablestore`: logs as rows of a Table Store table, in PlainBuffer.
//!
//! - [`config`](Config): the values of columns.
//! - [`encoder`](TableStoreRows): writes rows.

mod config;
mod encoder;

pub use config::{Config, Protocol};
pub use encoder::TableStoreRows;

logship_stage::export_row_encoder!(TableStoreRows);
