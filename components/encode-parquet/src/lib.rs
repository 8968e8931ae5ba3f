//! The stage `encode-parquet`: logs as the rows of a Parquet file.
//!
//! Columns come in the configured order. All are OPTIONAL: a log without the key has null, and so
//! has a value that does not convert to the column's type.
//!
//! | type      | Parquet              | values                                                     |
//! |-----------|----------------------|------------------------------------------------------------|
//! | `string`  | BYTE_ARRAY, `String` | text; bytes that are not UTF-8 become U+FFFD               |
//! | `boolean` | BOOLEAN              | `true` and `false` in any case, `1` and `0`                |
//! | `int32`   | INT32                | decimal digits with an optional sign, in the type's range  |
//! | `int64`   | INT64                | the same                                                   |
//! | `float`   | FLOAT                | decimal or scientific, finite: not `NaN`, `inf` or `1e39`  |
//! | `double`  | DOUBLE               | decimal or scientific, finite: not `NaN`, `inf` or `1e400` |
//!
//! Nothing is trimmed: ` 1` is no number, and neither is the empty value, which is a text. `1.0` and
//! `1e3` are no integers. `__time__` and `__time_ns_part__` are numbers: decimal text in a `string`,
//! null in a `boolean`, and `__time__` is null in an `int32` from 2038 on. Topic, source and tags
//! convert as fields do. Where a log has a key twice the last value counts.
//!
//! # The file
//! - Format version 1 with data pages of version 1, which every reader has known for ten years.
//!   Pages end after 20,000 rows or 1 MiB, row groups after `row_group_bytes` of values.
//! - A column chunk is dictionary-encoded where that saves a quarter of its first page, up to 32,768
//!   values or 1 MiB of them; other values, and those of a column whose dictionary failed in the row
//!   group before, are PLAIN.
//! - Column chunks have statistics: least, greatest (of texts the first 64 bytes, rounded) and the
//!   count of nulls. There are none for single pages.
//!
//! Where anything ends depends on the logs alone, never on how the host cuts them into chunks.
//!
//! # Why it encodes pages itself
//! The crate `parquet` writes page headers, schema and footer. Its column writers take values that
//! are objects with a reference count each, and go over them several times; encoding them here, from
//! the bytes of the batch, is twice as fast, and holds a row group back as compressed pages instead
//! of values.
//!
//! - [`config`](Config): columns, compression, the size of row groups.
//! - [`encoder`](ParquetEncoder): logs to rows.
//! - `file`: rows to row groups, and the footer.
//! - `column`: the values of one column to pages.
//! - `convert`: what a value is in a column's type.
//! - `dictionary`: distinct values and their indexes.
//! - `hybrid`: indexes and levels, run-length encoded or bit-packed.
//! - `statistics`: least and greatest values.
//! - `chunk`: complete pages, compressed.

mod chunk;
mod column;
mod config;
mod convert;
mod dictionary;
mod encoder;
mod file;
mod hybrid;
mod statistics;

pub use config::{ColumnConfig, Compression, Config, Kind};
pub use encoder::ParquetEncoder;

logship_stage::export_encoder!(ParquetEncoder);
