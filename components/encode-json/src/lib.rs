//! The stage `encode-json`: one line with a JSON object per log.
//!
//! `__time__` (a number), `__topic__` and `__source__` come first, then the fields in the log's order, as strings.
//! If a log repeats a key, the last value counts, and the others are reported as lost: readers disagree about repeated
//! members. A field with a reserved key, such as `__time__`, is written as `__field__:__time__`. Quotes, backslashes and
//! control characters are escaped; bytes that are not UTF-8 become U+FFFD.
//!
//! - [`config`](Config): switches for tags, nanoseconds and the reserved fields.
//! - [`encoder`](JsonEncoder): the lines.

mod config;
mod encoder;

pub use config::Config;
pub use encoder::JsonEncoder;

logship_stage::export_reporting_encoder!(JsonEncoder);
