//! Errors of the store.

use std::path::PathBuf;

use logship_sls::hash_key::RangeError;

use crate::damage::Damage;
use crate::position::LogPosition;

/// An error of a store operation. A failed operation changes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The project does not exist.
    #[error("The Project does not exist : {0}")]
    NoProject(String),
    /// The project already exists.
    #[error("Project {0} already exist")]
    ProjectExists(String),
    /// The logstore does not exist.
    #[error("logstore {0} does not exist")]
    NoLogstore(String),
    /// The logstore already exists.
    #[error("logstore {0} already exists")]
    LogstoreExists(String),
    /// The logstore or project has logs, and its deletion is not confirmed.
    #[error(
        "{kind} {name} has logs, and nothing was deleted: repeat its name, in the header `x-logship-confirm: {name}` or with `logship {kind} delete {name} --confirm {name}`. SDKs can't send the header: for them, set `confirm = false` under `[deletion]` in the settings of the service"
    )]
    DeletionNotConfirmed {
        /// `logstore` or `project`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// No deleted logstore or project of this name can be restored.
    #[error("no deleted {kind} is called {name}: it was not deleted, or too long ago")]
    NotDeleted {
        /// `logstore` or `project`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The logstore is under a legal hold.
    #[error("logstore {name} is under a legal hold ({reason}) and can't be deleted: release it first")]
    Held {
        /// The name of the logstore.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The job does not exist.
    #[error("job {0} does not exist")]
    NoJob(String),
    /// The job already exists.
    #[error("job {0} already exists")]
    JobExists(String),
    /// The run does not exist.
    #[error("the job has no run {0}")]
    NoRun(i64),
    /// The job has a run that has not ended.
    #[error(
        "run {run} of job {job} has not ended: wait for it, or stop it with `logship job stop {job} {run}`"
    )]
    ActiveRun {
        /// The name of the job.
        job: String,
        /// The number of the run.
        run: i64,
    },
    /// The run has ended, so it can't be stopped.
    #[error("run {0} has ended")]
    RunEnded(i64),
    /// The run can't be stopped any more.
    #[error("run {0} is being committed, so its rows may be visible already: wait for its end")]
    RunCommitting(i64),
    /// The shard does not exist.
    #[error("shard {0} does not exist")]
    NoShard(u32),
    /// The shard is read-only, because it was split or merged.
    #[error("shard {0} is read-only: it was split or merged")]
    ReadOnlyShard(u32),
    /// The shard can't be split at that key, or can't be merged.
    #[error("shard {shard}: {source}")]
    Resharding {
        /// The shard number.
        shard: u32,
        /// The problem with the key range.
        source: RangeError,
    },
    /// No writable shard follows, so the shard can't be merged.
    #[error(
        "no writable shard follows shard {0}: to merge it with the previous shard, merge that one instead"
    )]
    NoAdjacentShard(u32),
    /// The logstore would exceed the limit of writable shards.
    #[error("a logstore has at most {0} writable shards")]
    TooManyShards(u32),
    /// The cursor is outside the shard.
    #[error("cursor {cursor} is outside shard {shard}: its cursors are {begin} to {end}")]
    NoCursor {
        /// The shard number.
        shard: u32,
        /// The requested position.
        cursor: u64,
        /// The first position of the shard.
        begin: u64,
        /// The end of the shard: the position of the next log group.
        end: u64,
    },
    /// Another put of the client had this sequence.
    #[error("put {client}:{sequence} was stored with another body or query: use a new id for other logs")]
    PutIdConflict {
        /// The client.
        client: String,
        /// The sequence of the put.
        sequence: i64,
    },
    /// The ids of the client's puts around this sequence were dropped, so the put may be stored already.
    #[error(
        "put {client}:{sequence} is too old to tell if it was stored: the client put too many since then"
    )]
    PutIdTooOld {
        /// The client.
        client: String,
        /// The sequence of the put.
        sequence: i64,
    },
    /// Another life of the store gave the cursor out: before the store was restored, or in a copy of it.
    #[error(
        "cursor {cursor} of shard {shard} is of another life of this store, whose logs are not here: the store was restored or copied, or lost its last logs. Logs up to cursor {end} are in both, and new ones begin at {next}: start from a saved checkpoint, or from a cursor by time"
    )]
    OtherGeneration {
        /// The shard number.
        shard: u32,
        /// The requested position.
        cursor: u64,
        /// The end of the logs that both lives have.
        end: u64,
        /// The first position of the later generation.
        next: u64,
    },
    /// The consumer group already exists.
    #[error("consumer group already exist")]
    GroupExists(String),
    /// The consumer group does not exist.
    #[error("consumer group not exist")]
    NoGroup(String),
    /// The logstore has the maximum number of consumer groups.
    #[error("a logstore has at most {0} consumer groups: delete one first")]
    GroupQuota(usize),
    /// The consumer is not a member of the group, or its membership timed out.
    #[error("consumer {0} is not a member of the group: it sent no heartbeat within the group's timeout")]
    NoConsumer(String),
    /// The shard is assigned to another consumer.
    #[error("shard {shard} is not assigned to consumer {consumer}")]
    NotOwner {
        /// The shard number.
        shard: u32,
        /// The requesting consumer.
        consumer: String,
    },
    /// The rule does not exist.
    #[error("The shipper {0} does not exist")]
    NoRule(String),
    /// The rule already exists.
    #[error("shipper {0} already exists")]
    RuleExists(String),
    /// A deleted rule had this name.
    #[error("shipper {0} was deleted and its name can't be reused: choose another name")]
    RuleNameTaken(String),
    /// The data source does not exist.
    #[error("data source {0} does not exist")]
    NoSource(String),
    /// The data source already exists.
    #[error("data source {0} already exists")]
    SourceExists(String),
    /// The project has the maximum number of data sources.
    #[error("a project has at most {0} data sources: delete one first")]
    SourceQuota(u32),
    /// The next task of the shard begins at another position.
    #[error("the next task of the shard begins at {0}")]
    NextTaskMoved(LogPosition),
    /// The stage does not exist.
    #[error("no stage is called {0}")]
    NoStage(String),
    /// The stage alias changed since the caller read it.
    #[error("stage {0} was changed at the same time: check its current state and try again")]
    StageChanged(String),
    /// Stage aliases changed since the plan of the task was made.
    #[error("stages changed while the task was created")]
    StagesChanged,
    /// The task does not exist, or can't be started.
    #[error("task {0} does not exist")]
    NoTask(String),
    /// A stored log group is damaged or missing. Nothing of it is returned.
    #[error("{0}")]
    Damaged(Damage),
    /// Another process uses the data directory.
    #[error("{} is in use by another process: stop it or use another data directory", .0.display())]
    Locked(PathBuf),
    /// A restore of a backup was interrupted.
    #[error("a restore into {} was interrupted: run `logship restore` again", .0.display())]
    Restoring(PathBuf),
    /// The file is not a store, or is a store of a newer logship.
    #[error("{} is not a store that this logship can read (schema version {version}, supported up to {known}): use a newer logship or another data directory", path.display())]
    UnsupportedFile {
        /// The path of the file.
        path: PathBuf,
        /// The schema version of the file.
        version: usize,
        /// The newest supported schema version.
        known: usize,
    },
    /// The file is a store of an older logship.
    #[error("{} is a store of an older logship (schema version {version}, now {known}): start `logship serve` with it once, which updates it", path.display())]
    OldFile {
        /// The path of the file.
        path: PathBuf,
        /// The schema version of the file.
        version: usize,
        /// The current schema version.
        known: usize,
    },
    /// The copy of the database before a migration can't be made.
    #[error(
        "can't keep a copy of the database before its migration, {}: {source}. Free some space, or make an empty file of this name if you have a backup", path.display()
    )]
    CopyBeforeMigration {
        /// The path of the copy.
        path: PathBuf,
        /// The reason.
        source: Box<StoreError>,
    },
    /// The header or the schema of the database is damaged.
    #[error("{}: not even the schema is readable ({source}), so nothing can be salvaged: restore a backup", path.display())]
    Unsalvageable {
        /// The path of the file.
        path: PathBuf,
        /// The error of the database.
        source: rusqlite::Error,
    },
    /// A file of the data directory can't be created or opened.
    #[error("{}: {source}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The database failed, usually because the disk is full.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The shared commit failed; nothing was stored.
    #[error("the commit failed: {0}")]
    Commit(String),
    /// The store is being closed.
    #[error("the store is being closed")]
    Closed,
}
