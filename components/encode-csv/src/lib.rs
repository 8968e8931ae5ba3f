//! The stage `encode-csv`: one line per log, with the configured columns.
//!
//! A field is quoted if it contains the delimiter, the quote or a line break; quotes inside are doubled. Lines end in
//! `\n`. If a log repeats a key, its last value counts. `__time__` is in Unix seconds, `__time_ns_part__` has the
//! nanoseconds within the second.
//!
//! # Missing and empty values
//! A missing key is written as the unquoted null text. A value equal to the null text is quoted, so that the two stay
//! distinct. With an empty null text, a missing key is an empty field and an empty value is `""`. PostgreSQL's
//! `COPY … CSV` distinguishes NULL and the empty string in the same way. pyarrow does with
//! `strings_can_be_null=True, quoted_strings_can_be_null=False`, DuckDB with `allow_quoted_nulls=false` and a
//! non-empty null text.
//!
//! # One column
//! A blank line is written as `""`, because many readers skip blank lines and would lose the log. So with one column
//! and an empty null text, a missing key reads as an empty value; `"null": "\\N"` keeps the two distinct. A value `\.`
//! alone on its line is quoted, because PostgreSQL would treat it as the end of the data.
//!
//! # Comparison with the crate csv
//! The tests read the output with the crate csv. Its writer has no null text and processes single bytes.
//!
//! - [`config`](Config): columns and dialect.
//! - [`encoder`](CsvEncoder): the lines.
//! - `field`: writes fields, one SIMD block at a time.

mod config;
mod encoder;
mod field;

pub use config::{Config, InvalidUtf8};
pub use encoder::CsvEncoder;

logship_stage::export_reporting_encoder!(CsvEncoder);
