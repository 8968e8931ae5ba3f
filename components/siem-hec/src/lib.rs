//! The stage `siem-hec`: one event for Splunk's HTTP Event Collector for each log.
//!
//! `{"sourcetype":"sls","time":1484913043,"event":{"method":"GET","status":"200"}}`: an event has the configured
//! metadata, the log's time, and its fields in order as a JSON object or as text. The values of a repeated key are an
//! array in the object. A field with a reserved key, such as `__time__`, is called `__field__:__time__`. Fields with JSON
//! text can be embedded as JSON, by topic. Bytes that are not UTF-8 become U+FFFD. Splunk rejects blank events, so the
//! event of a log without fields is its time, `{"__time__":1484913043}`, or `-` as text.
//!
//! - [`config`](Config): the content of events.
//! - [`formatter`](HecFormatter): writes events.
//! - `metadata`: writes the metadata before the time.
//! - `json_fields`: validates and compacts JSON fields. `repeated`: writes the members of a log that repeats a key.

mod config;
mod formatter;
mod json_fields;
mod metadata;
mod repeated;

pub use config::{Config, Format};
pub use formatter::HecFormatter;

logship_stage::export_formatter!(HecFormatter);
