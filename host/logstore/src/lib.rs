//! A durable Logstore in one SQLite file, for one process.
//!
//! A **project** has logstores; a **logstore** has shards; a **shard** is a sequence of log groups. A **log
//! group** is what one put brings: its position is its shard's next, a number without gaps, which is what a
//! cursor of the API says. **Consumer groups** share the shards of a logstore among their members and
//! remember how far each shard was read. **Rules** ship a logstore by **tasks**, a range of a shard each.
//!
//! # Layout
//! - `store`: [`Store`], what others call. `catalog`: what there is, in memory. `manage`: how that changes.
//! - `writer`: the one thread that writes; puts that wait share its commits. `retention`: deletes old logs.
//! - `consumer_group`: members, heartbeats and checkpoints. `balance`: which member gets which shard.
//! - `rule`: what ships a logstore, and how far. `task`: ranges of shards, and the objects that they become.
//! - `stage`: names of stages, and which version each stands for.
//! - `schema`: the tables.
//!
//! # What is stored
//! A log group is stored as the client sent it, field for field, also those that nobody here knows: one LZ4
//! block, which is how most clients send it, so as a rule the bytes of the request are those on disk.
//! BENCHMARKS.md has the figures behind that choice.
//!
//! # Promises
//! - A put that was answered is on disk (`synchronous=FULL`), and exactly once there.
//! - Positions are consecutive, never used again and never change.
//! - What a shard's reader was shown stays there until its time to live is over.

use std::sync::Arc;

use bytes::Bytes;

mod balance;
mod catalog;
mod consumer_group;
mod error;
mod manage;
mod retention;
mod rule;
mod schema;
mod stage;
mod store;
mod task;
mod writer;

pub use catalog::{Catalog, Logstore, Project, Shard};
pub use consumer_group::{Checkpoint, ConsumerGroup, GroupStatus};
pub use error::StoreError;
pub use manage::{LogstoreSettings, Resharding};
pub use retention::FOREVER;
pub use rule::{Progress, RuleSettings, RuleStart, ShippingRule};
pub use stage::{
    NewStageVersion, StageAction, StageChange, StageEvent, StageName, StageNames, StageTarget, StageVersion,
};
pub use store::{Limits, Store};
pub use task::{
    CONFIG_NOT_EXIST, Failing, Measured, NewTask, Place, Seal, SealedObject, Status, Task, TaskCounts,
    TaskFilter, TaskId,
};

/// The present in microseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What can be set of a store.
#[derive(Clone)]
pub struct Options {
    /// Consumer groups that a logstore may have.
    pub groups: usize,
    /// Shards of a logstore that can be written to.
    pub shards: u32,
    /// What the time is, since 1970.
    pub clock: Clock,
    /// What the time is, since any moment: nobody sets this clock, so it tells who was silent for how long.
    pub uptime: Clock,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Options").field("groups", &self.groups).field("shards", &self.shards).finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            now.as_micros() as u64
        };
        let start = std::time::Instant::now();
        let uptime = move || start.elapsed().as_micros() as u64;
        Self { groups: 10, shards: 256, clock: Arc::new(clock), uptime: Arc::new(uptime) }
    }
}

/// A log group to be stored. Who makes one has checked that the body is what the numbers say.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// The LogGroup in protobuf, as one LZ4 block.
    pub body: Bytes,
    /// Its bytes before compression.
    pub size: u32,
    /// How many logs it has.
    pub logs: u32,
    /// The time of its newest log, in Unix seconds.
    pub newest: u32,
}

/// A log group that is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredGroup<'a> {
    /// Where it stands in its shard.
    pub position: u64,
    /// When it was received, in Unix seconds.
    pub received: u64,
    /// The time of its newest log, in Unix seconds.
    pub newest: u32,
    /// How many logs it has.
    pub logs: u32,
    /// Its bytes before compression.
    pub size: u32,
    /// The LogGroup in protobuf, as one LZ4 block.
    pub body: &'a [u8],
}
