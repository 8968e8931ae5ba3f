//! Logs as events for a SIEM: Splunk's HTTP Event Collector, or syslog.
//!
//! A shard is read in **loads** of a few MB. A stage formats the logs of a load as messages, a **receiver** takes
//! them, and only when it has all of them it is written down that the shard was read so far. While one load is on its
//! way the next ones are read and formatted, but how far a shard is follows the oldest that is not done. What the
//! receiver refuses for good becomes a **dead letter**, an object that tells why, and the shard goes on. Whatever else
//! fails is tried again until it succeeds: nothing is dropped, and as a shard reads no further ahead than a few loads,
//! what waits takes no memory.
//!
//! # Layout
//! - [`load`]: logs on their way, and where they are from. `format`: their messages, by a stage.
//! - [`receiver`]: who takes them: [`hec`] and [`syslog`], and their settings. `backoff`: when it is tried again.
//! - [`dead_letter`]: what nobody takes.
//! - `feed`: one shard, from its logs to the receiver and on. What it reads, and where it writes down how far it is,
//!   is one of: [`member`], a consumer group's member over the network; [`rules`], the [`rule`]s of a store.
//! - `trial`: messages that are formatted for nothing but to see what a stage would change.
//! - [`consumer`]: what the members of a program have in common.

mod backoff;
pub mod consumer;
pub mod dead_letter;
mod feed;
mod format;
mod goal;
pub mod hec;
pub mod load;
pub mod member;
pub mod receiver;
pub mod rule;
pub mod rules;
pub mod syslog;
mod trial;

pub use feed::Sent;
