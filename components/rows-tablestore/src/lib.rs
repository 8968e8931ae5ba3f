//! The stage `rows-tablestore`: logs as rows of a Table Store table, in PlainBuffer.
//!
//! - [`config`](Config): the values of columns.
//! - [`encoder`](TableStoreRows): writes the rows of a batch.
//! - `columns`: the columns of fields and properties that the configuration does not map, and their names.
//! - `convert`: texts as values of a type. `plain_buffer` writes rows and cells, `crc8` their checksums.

mod columns;
mod config;
mod convert;
mod crc8;
mod encoder;
mod plain_buffer;

pub use config::{Config, Protocol, Version};
pub use encoder::TableStoreRows;

logship_stage::export_row_encoder!(TableStoreRows);
