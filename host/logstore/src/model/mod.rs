//! The types of the store: what it holds, and what its operations take and return.
//!
//! Nothing here reads or writes the database.

mod audit;
mod catalog;
mod chain;
mod consumer_group;
mod data_source;
mod deletion;
mod generation;
mod job;
mod log_group;
mod logstore;
mod project;
mod put_id;
mod rule;
mod run;
mod segments;
mod shard;
mod stage;
mod task;
mod verification;

pub use audit::{AUDIT_LOGSTORE, AUDIT_PROJECT, AuditRecord, AuditTarget};
pub use catalog::Catalog;
pub use chain::Heads;
pub(crate) use chain::{Chain, GroupColumns, HashedGroup, next_head};
pub use consumer_group::{Checkpoint, ConsumerGroup, GroupStatus};
pub use data_source::StoredSource;
pub use deletion::{DeletedLogstore, DeletedProject};
pub use generation::{Generation, GenerationReason};
pub use job::{SyncJob, Unread};
pub use log_group::{NewGroup, StoredGroup};
pub use logstore::{FOREVER, Logstore, LogstoreSettings};
pub use project::Project;
pub use put_id::{PutId, StoredPut};
pub use rule::{Progress, RuleSettings, RuleStart, ShippingRule};
pub use run::{JobRun, NewRun, RunEnd, RunState, RunTrigger};
pub(crate) use segments::Segments;
pub(crate) use shard::{POSITION_BITS, ShardState};
pub use shard::{Resharding, Shard};
pub use stage::{
    NewStageVersion, StageAction, StageAlias, StageAliases, StageChange, StageEvent, StageTarget,
    StageVersion,
};
pub use task::{
    Backlog, CONFIG_NOT_EXIST, FailingStage, LostColumn, LostValues, ManifestEntry, NewTask, ObjectManifest,
    Status, Task, TaskCounts, TaskFilter, TaskId,
};
pub use verification::{Comparison, ShardHead, Verification, VerifiedShard};
