//! Logs as events for a SIEM: Splunk's HTTP Event Collector, or syslog.
//!
//! A shard is read in **batches** of a few MB. A stage formats the logs of a batch as messages, and a **receiver**
//! takes them. The checkpoint is saved only after the receiver has confirmed the whole batch. The next batches are read
//! and formatted meanwhile; the checkpoint follows the oldest unconfirmed batch. An event that the receiver rejects
//! permanently becomes a **dead letter**, an object with the reason, and the shard goes on. All other failures are
//! retried until they succeed, so nothing is dropped. Only a few batches are prefetched, so a backlog takes no memory.
//!
//! # Layout
//! - [`chunk`]: logs with their positions. `format`, `formatters`: their messages, made by stages.
//! - `delivery`: the delivery of one shard, from a reader through stages to the receiver, and its checkpoints. Two
//!   modules read and save checkpoints: `group_shards`, those of a consumer group's [`member`], over the network, and
//!   `shard`, the tasks of the engine. `end_cursors`: the end of a bounded consumer.
//! - [`rule`]: rules that send events, as a kind of work of the engine.
//! - `preview`: messages of past tasks, formatted with another stage.
//! - [`consumer`]: the shared parts of a program's members.

pub mod chunk;
pub mod consumer;
mod delivery;
mod end_cursors;
mod format;
mod formatters;
mod group_shards;
pub mod member;
mod preview;
pub mod rule;
mod shard;

pub use delivery::Sent;
pub use format::transport;
pub use rule::Events;
