//! A durable Logstore in one SQLite file, for one process.
//!
//! A **project** has logstores, a **logstore** has shards, and a **shard** is a sequence of log groups. A **log group**
//! is the unit of a put. Its position in the shard is a consecutive number; the cursors of the API are positions.
//! **Consumer groups** distribute the shards of a logstore among their members and store a checkpoint for each shard.
//! **Rules** ship a logstore in **tasks**; each task is a range of a shard. **Jobs** write the rows of a time range to a
//! table in **runs**.
//!
//! # Layout
//! Each module imports only modules below it.
//!
//! | module | content |
//! |---|---|
//! | `store` | [`Store`], the API: one file for each noun with its operations. `store/writer`: the single writer thread, with group commit; `store/commit`: the work of a commit. `store/retention`: deletes old logs. `store/integrity`, `store/chain`, `store/walk`: checksums and hash chains |
//! | `audit` | [`AuditScope`]: the operation that the audit log names for a change |
//! | `model` | the types that the store holds, takes and returns, one file for each noun |
//! | `schema` | the tables, and their migrations |
//! | `copy` | copies of the database |
//! | `files` | files that only their owner can read |
//! | `error` | [`StoreError`] |
//! | `balance` | assigns the shards of a logstore to the members of a consumer group |
//! | `clock_guard` | a clock that is set forward must not delete logs or forget put ids early |
//! | `options` | [`Options`] of a store |
//! | `moment` | moments by the wall clock and the clock of the machine's boot |
//! | `damage` | [`Damage`]: damaged or missing log groups |
//! | `digest` | [`Digest`]: BLAKE3 |
//! | `position` | [`LogPosition`]: positions between two logs of a shard |
//!
//! # Storage format
//! A log group is stored as the client sent it, including unknown protobuf fields, as one LZ4 block. Most clients send
//! LZ4, so the bytes of the request are usually the bytes on disk. BENCHMARKS.md has the measurements.
//!
//! # Guarantees
//! - An acknowledged put is on disk (`synchronous=FULL`), exactly once.
//! - Positions are consecutive, never reused and never changed.
//! - A log group that a reader has seen stays readable until its time to live ends.
//! - A read returns the bytes of the put: each log group has a checksum, and each shard a hash chain (`model/chain`).
//!   [`StoreVerifier`] walks the chains.

mod audit;
mod balance;
mod clock_guard;
mod copy;
mod damage;
mod digest;
mod error;
mod files;
mod model;
mod moment;
mod options;
mod position;
mod schema;
mod store;

pub use audit::AuditScope;
pub use damage::{Damage, Flaw};
pub use digest::{Digest, InvalidDigest};
pub use error::StoreError;
pub use model::{
    AUDIT_LOGSTORE, AUDIT_PROJECT, AuditRecord, AuditTarget, Backlog, CONFIG_NOT_EXIST, Catalog, Checkpoint,
    Comparison, ConsumerGroup, DeletedLogstore, DeletedProject, FOREVER, FailingStage, Generation,
    GenerationReason, GroupStatus, Heads, JobRun, Logstore, LogstoreSettings, LostColumn, LostValues,
    ManifestEntry, NewGroup, NewRun, NewStageVersion, NewTask, ObjectManifest, Progress, Project, PutId,
    Resharding, RuleSettings, RuleStart, RunEnd, RunState, RunTrigger, Shard, ShardHead, ShippingRule,
    StageAction, StageAlias, StageAliases, StageChange, StageEvent, StageTarget, StageVersion, Status,
    StoredGroup, StoredPut, StoredSource, SyncJob, Task, TaskCounts, TaskFilter, TaskId, Unread,
    Verification, VerifiedShard,
};
pub use options::{Clock, Options};
pub use position::LogPosition;
pub use store::{
    Health, LOCK, Limits, RESTORING, Restored, Salvage, Snapshot, Store, StoreVerifier, Unshipped,
    check_structure, lock_directory,
};
