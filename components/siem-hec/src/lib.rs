//! The stage `siem-hec`: one event for Splunk's HTTP Event Collector for each log.
//!
//! `{"sourcetype":"sls","time":1484913043,"event":{"method":"GET","status":"200"}}`: metadata where they are
//! configured, the log's time, and its fields in their order as a JSON object, or as text. Fields that are JSON
//! themselves can be parsed, by topic. Bytes that are not UTF-8 become U+FFFD. Splunk refuses an event with nothing in
//! it, so a log without fields has its time there: `{"__time__":1484913043}`, or `-` as text.
//!
//! - [`config`](Config): what stands in an event.
//! - [`formatter`](HecFormatter): the events.
//! - `metadata`: what stands before the time, and where it is from.
//! - `parsed`: fields that are JSON.

mod config;
mod formatter;
mod metadata;
mod parsed;

pub use config::{Config, Format};
pub use formatter::HecFormatter;

logship_stage::export_formatter!(HecFormatter);
