//! Splunk's HTTP Event Collector.

mod client;
mod config;
mod error;
mod sink;

pub(crate) use self::config::open;
pub use self::sink::Hec;
