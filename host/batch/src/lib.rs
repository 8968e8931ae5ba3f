//! Code shared by the host and the function triggers, so that a batch becomes the same object wherever its stages run.
//!
//! - [`types`]: the record types of a batch, as declared in `wit/`.
//! - [`batch`]: builds, validates and slices batches; `split` divides a batch into several.
//! - [`log_group`]: converts between log groups and batches. [`parser`]: parses lines into batches, with [`time`].
//! - [`stage_spec`], [`time_zone`]: the format, compression and time zone of a rule.
//! - [`utf16`]: decodes UTF-16.
//! - [`hec_answer`]: the answers of Splunk's HTTP Event Collector.
//! - [`reserved`]: keeps fields apart from the properties of logs and groups.
//! - [`partition`]: assigns logs to partitions by their own time.

pub mod batch;
pub mod hec_answer;
pub mod log_group;
pub mod parser;
pub mod partition;
pub mod reserved;
mod split;
pub mod stage_spec;
pub mod time;
pub mod time_zone;
pub mod types;
pub mod utf16;
