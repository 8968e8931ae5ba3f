//! A durable Logstore in one SQLite file, for one process.
//!
//! A **project** has logstores, a **logstore** has shards, and a **shard** is a sequence of log groups. A **log group**
//! is the unit of a put. Its position in the shard is a consecutive number; the cursors of the API are positions.
//! **Consumer groups** distribute the shards of a logstore among their members and store a checkpoint for each shard.
//! **Rules** ship a logstore in **tasks**; each task is a range of a shard.
//!
//! # Layout
//! - `store`: [`Store`], the API. `catalog`: projects, logstores and shards in memory. `manage`: changes them.
//! - `writer`: the single writer thread, with group commit. `retention`: deletes old logs.
//! - `consumer_group`: members, heartbeats and checkpoints. `balance`: assigns shards to members.
//! - `rule`: shipping rules and their progress. `task`: ranges of shards, and the objects made from them.
//! - `stage`: aliases of stages, and the version that each points to.
//! - `schema`: the tables.
//!
//! # Storage format
//! A log group is stored as the client sent it, including unknown protobuf fields, as one LZ4 block. Most clients send
//! LZ4, so the bytes of the request are usually the bytes on disk. BENCHMARKS.md has the measurements.
//!
//! # Guarantees
//! - An acknowledged put is on disk (`synchronous=FULL`), exactly once.
//! - Positions are consecutive, never reused and never changed.
//! - A log group that a reader has seen stays readable until its time to live ends.

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
    NewStageVersion, StageAction, StageAlias, StageAliases, StageChange, StageEvent, StageTarget,
    StageVersion,
};
pub use store::{Limits, Store};
pub use task::{
    Backlog, CONFIG_NOT_EXIST, FailingStage, LogPosition, ManifestEntry, NewTask, ObjectManifest, Status,
    Task, TaskCounts, TaskFilter, TaskId,
};

/// Returns the current time in microseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The options of a store.
#[derive(Clone)]
pub struct Options {
    /// The maximum number of consumer groups of a logstore.
    pub groups: usize,
    /// The maximum number of writable shards of a logstore.
    pub shards: u32,
    /// The wall clock, since the Unix epoch.
    pub clock: Clock,
    /// A monotonic clock, for timeouts of consumers: changes of the wall clock do not affect it.
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

/// A log group to store. The caller guarantees that the other fields describe the body.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// The protobuf LogGroup, as one LZ4 block.
    pub body: Bytes,
    /// The size before compression, in bytes.
    pub size: u32,
    /// The number of logs.
    pub logs: u32,
    /// The time of the newest log, in Unix seconds.
    pub newest: u32,
}

/// A stored log group.
#[derive(Debug, Clone, Copy)]
pub struct StoredGroup<'a> {
    /// The position in the shard.
    pub position: u64,
    /// The time of receipt, in Unix seconds.
    pub received: u64,
    /// The time of the newest log, in Unix seconds.
    pub newest: u32,
    /// The number of logs.
    pub logs: u32,
    /// The size before compression, in bytes.
    pub size: u32,
    /// The protobuf LogGroup, as one LZ4 block.
    pub body: &'a [u8],
}
