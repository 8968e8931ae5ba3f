//! The stage `encode-parquet`: logs as the rows of a Parquet file.
//!
//! Columns have the configured order. All are OPTIONAL: missing keys are null, and so are values that do not convert to
//! the column's type.
//!
//! | type      | Parquet              | values                                                     |
//! |-----------|----------------------|------------------------------------------------------------|
//! | `string`  | BYTE_ARRAY, `String` | text; bytes that are not UTF-8 become U+FFFD               |
//! | `boolean` | BOOLEAN              | `true` and `false` in any case, `1` and `0`                |
//! | `int32`   | INT32                | decimal digits with an optional sign, in the type's range  |
//! | `int64`   | INT64                | as `int32`                                                 |
//! | `float`   | FLOAT                | decimal or scientific, finite: not `NaN`, `inf` or `1e39`  |
//! | `double`  | DOUBLE               | decimal or scientific, finite: not `NaN`, `inf` or `1e400` |
//!
//! Values are not trimmed: ` 1` and the empty value are not numbers; the empty value is a text. `1.0` and `1e3` are not
//! integers. `__time__` and `__time_ns_part__` are numbers: decimal text in a `string`, null in a `boolean`. From 2038
//! on, `__time__` is null in an `int32`. Topic, source and tags convert like fields. If a log repeats a key, the last
//! value counts.
//!
//! # Lost values
//! The encoder reports, by column, the values that became null, the repeated ones, and numbers whose digits the type does
//! not keep, such as 9007199254740993 in a `double`. With `rejects_column`, the file keeps those that do not fit their
//! columns.
//!
//! # The file
//! - Format version 1 with data pages of version 1, which every reader has supported for ten years.
//!   Pages end after 20,000 rows or 1 MiB, row groups after `row_group_bytes` of values.
//! - A column chunk is dictionary-encoded if that saves a quarter of its first page, up to 32,768 values or 1 MiB. Other
//!   values are PLAIN. So are the values of a column whose dictionary failed in the previous row group.
//! - Column chunks have statistics: minimum, maximum (of texts the first 64 bytes, rounded) and the number of nulls.
//!   Single pages have no statistics.
//!
//! All boundaries depend only on the logs, never on the host's chunks.
//!
//! # Own page encoder
//! The crate `parquet` writes page headers, schema and footer. Its column writers need reference-counted objects as
//! values and process them several times. This crate encodes pages from the bytes of the batch. That is twice as fast
//! and buffers a row group as compressed pages instead of values.
//!
//! - [`config`](Config): columns, compression, the size of row groups.
//! - [`encoder`](ParquetEncoder): turns logs into rows.
//! - `file`: turns rows into row groups; writes the footer.
//! - `column`: turns the values of one column into pages.
//! - `convert`: converts values to a column's type.
//! - `rejects`: the values that do not fit, counted and kept.
//! - `dictionary`: distinct values and their indexes.
//! - `hybrid`: indexes and levels, run-length encoded or bit-packed.
//! - `statistics`: minimum and maximum values.
//! - `chunk`: complete pages, compressed.

mod chunk;
mod column;
mod config;
mod convert;
mod dictionary;
mod encoder;
mod file;
mod hybrid;
mod rejects;
mod statistics;

pub use config::{ColumnConfig, Compression, Config, Kind};
pub use encoder::ParquetEncoder;

logship_stage::export_reporting_encoder!(ParquetEncoder);
