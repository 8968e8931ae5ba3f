//! Shipping tasks. Each task is a range of a shard that becomes one object, or several objects if its rule partitions
//! it.
//!
//! A task is saved before its object is made. Its range may shrink until its **manifest** is saved, with the digests of
//! its objects. Only then the objects get their names. After that, one transaction marks the task as successful and
//! moves the checkpoint. If a remote executor makes the object, it may store it although its reply is lost. So the
//! **range is fixed** before the call.

mod backlog;
mod failing_stage;
mod filter;
mod id;
mod lost;
mod manifest;
mod status;

pub use backlog::Backlog;
pub use failing_stage::FailingStage;
pub use filter::{TaskCounts, TaskFilter};
pub use id::TaskId;
pub use lost::{LostColumn, LostValues};
pub use manifest::{ManifestEntry, ObjectManifest};
pub use status::{CONFIG_NOT_EXIST, Status};

use super::Heads;
use crate::position::LogPosition;

/// A task to create.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The id.
    pub id: TaskId,
    /// The shard number.
    pub shard: u32,
    /// The start of the range: the end of the shard's previous task.
    pub begin: LogPosition,
    /// The end of the range, exclusive. The range may still shrink.
    pub end: LogPosition,
    /// The key of the object; empty if it depends on the logs.
    pub object: String,
    /// The time of receipt of the newest log, in Unix seconds.
    pub received: u64,
    /// The plan: the rule and the digests of its stages, as JSON.
    pub plan: String,
    /// The [revision](crate::StageAliases::revision) of the stage aliases on which the plan is based.
    pub revision: i64,
    /// True if a backup has the task. Logs that do not fit become a task of their own, sealed as well.
    pub is_sealed: bool,
}

/// A task.
#[derive(Debug, Clone)]
pub struct Task {
    /// The id.
    pub id: TaskId,
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The name of the rule.
    pub rule: String,
    /// The number of the rule.
    pub rule_number: i64,
    /// The number of the plan.
    pub plan: i64,
    /// The shard number.
    pub shard: u32,
    /// The start of the range.
    pub begin: LogPosition,
    /// The end of the range, exclusive. It is final once the range is fixed or the manifest is saved.
    pub end: LogPosition,
    /// True if the end of the range is final.
    pub is_range_fixed: bool,
    /// The key of the first object; empty until it is known.
    pub object: String,
    /// The time of receipt of the newest log, in Unix seconds.
    pub received: u64,
    /// The status.
    pub status: Status,
    /// The number of attempts.
    pub attempts: u32,
    /// The number of failed attempts. Interrupted attempts do not count.
    pub failures: u32,
    /// The start of the last attempt, in Unix microseconds.
    pub started: u64,
    /// The end of the last attempt, in Unix microseconds; 0 while the task runs.
    pub finished: u64,
    /// The time of the next attempt, in Unix microseconds.
    pub next_attempt: Option<u64>,
    /// The manifest, once it is saved.
    pub manifest: Option<ObjectManifest>,
    /// The values of its logs that are not in its objects, if any.
    pub lost: Option<LostValues>,
    /// The upload sessions of its rows, in the form of its kind of work.
    pub sessions: Option<String>,
    /// The error code.
    pub code: String,
    /// The error message.
    pub message: String,
    /// The digest of the stage in which the last attempt failed.
    pub stage: Option<String>,
    /// The heads of the shard's chain before and after the range. `None` for log groups from before checksums.
    pub heads: Option<Heads>,
}

impl Task {
    /// Returns the manifest entries of all objects. Empty until the manifest is saved, and if there are no objects.
    pub fn objects(&self) -> Vec<ManifestEntry> {
        let Some(manifest) = self.manifest.as_ref().filter(|manifest| manifest.has_object()) else {
            return vec![];
        };
        if !manifest.objects.is_empty() {
            return manifest.objects.clone();
        }
        let ObjectManifest { rows, raw_bytes, stored_bytes, ref sha256, .. } = *manifest;
        let (object, sha256) = (self.object.clone(), sha256.clone());
        vec![ManifestEntry { object, rows, raw_bytes, stored_bytes, sha256 }]
    }
}
