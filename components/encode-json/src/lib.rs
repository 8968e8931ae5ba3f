//! The stage `encode-json`: one JSON object a line for each log.
//!
//! `__time__` (a number), `__topic__` and `__source__` come first, then the fields in the log's own
//! order, as strings; a key that a log has twice stands in its object twice. Quotes, backslashes
//! and control characters are escaped, bytes that are not UTF-8 become U+FFFD.
//!
//! - [`config`](Config): tags, nanoseconds, and whether the reserved members come at all.
//! - [`encoder`](JsonEncoder): the lines.

mod config;
mod encoder;

pub use config::Config;
pub use encoder::JsonEncoder;

logship_stage::export_encoder!(JsonEncoder);
