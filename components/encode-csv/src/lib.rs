//! The stage `encode-csv`: one line a log, with the columns of the configuration.
//!
//! A field is quoted when it holds the delimiter, the quote or a line break; a quote inside is
//! doubled. Lines end in `\n`. A key that a log has twice counts with its last value. `__time__` is
//! in Unix seconds, `__time_ns_part__` the nanoseconds within.
//!
//! # Missing or empty
//! The null text stands, unquoted, for a key that the log does not have; a value that happens to be
//! the same text is quoted, so that the two stay apart. With the null text empty, a missing key is
//! nothing at all and an empty value is `""`, which is how PostgreSQL's `COPY … CSV` tells NULL from
//! an empty string. pyarrow reads it so with
//! `strings_can_be_null=True, quoted_strings_can_be_null=False`, DuckDB with `allow_quoted_nulls=false`
//! and a null text that is not empty.
//!
//! # One column
//! A line that would be blank is written as `""`, because many readers skip a blank line, and with
//! it the log. So with one column and an empty null text, a missing key reads as an empty value;
//! `"null": "\\N"` keeps the two apart. A value `\.` alone on its line is quoted, since PostgreSQL
//! would take it for the end of the data.
//!
//! # Why not the crate csv
//! It reads what is written here, in the tests. Its writer knows no null text, and goes byte by byte.
//!
//! - [`config`](Config): columns and dialect.
//! - [`encoder`](CsvEncoder): the lines.
//! - `field`: fields, a SIMD block at a time.

mod config;
mod encoder;
mod field;

pub use config::{Config, InvalidUtf8};
pub use encoder::CsvEncoder;

logship_stage::export_encoder!(CsvEncoder);
