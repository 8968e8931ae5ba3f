//! What the host and the triggers share, so that a batch becomes the same object wherever its stages run.
//!
//! - [`types`]: a batch, as `wit/` has it.
//! - [`batch`]: how batches are built and cut; `split`: into several.
//! - [`log_group`]: batches from log groups, and log groups from batches; [`ndjson`]: batches from lines, with
//!   [`time`].
//! - [`choice`], [`time_zone`]: what a rule says of format, compression and partition; [`partition`]: by the time of logs.

pub mod batch;
pub mod choice;
pub mod log_group;
pub mod ndjson;
pub mod partition;
mod split;
pub mod time;
pub mod time_zone;
pub mod types;
