//! What can go wrong in the store.

use std::path::PathBuf;

use logship_sls::hash_key::RangeError;

use crate::task::Place;

/// Why the store did not do what it was asked for. Nothing of it is done then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such project.
    #[error("The Project does not exist : {0}")]
    NoProject(String),
    /// The project is there already.
    #[error("Project {0} already exist")]
    ProjectExists(String),
    /// The project has no such logstore.
    #[error("logstore {0} does not exist")]
    NoLogstore(String),
    /// The logstore is there already.
    #[error("logstore {0} already exists")]
    LogstoreExists(String),
    /// The logstore has no such shard.
    #[error("shard {0} does not exist")]
    NoShard(u32),
    /// The shard was split or merged, and takes no more logs.
    #[error("shard {0} is read-only: it was split or merged")]
    ReadOnlyShard(u32),
    /// The shard can't be split there, or merged.
    #[error("shard {shard}: {source}")]
    Resharding {
        /// The number of the shard.
        shard: u32,
        /// What is wrong with its keys.
        source: RangeError,
    },
    /// The shard is the last, so there is none to merge it with.
    #[error("no shard that takes logs follows shard {0}: merge it with the one before, by naming that")]
    NoNeighbour(u32),
    /// A logstore would have more shards than are allowed.
    #[error("a logstore has at most {0} shards that can be written to")]
    TooManyShards(u32),
    /// The cursor is none of the shard's, or one that nothing was written to yet.
    #[error("cursor {cursor} is none of shard {shard}: it has those from {begin} to {end}")]
    NoCursor {
        /// The number of the shard.
        shard: u32,
        /// The position asked for.
        cursor: u64,
        /// The shard's first position.
        begin: u64,
        /// Its next position, where nothing is yet.
        end: u64,
    },
    /// The consumer group is there already.
    #[error("consumer group already exist")]
    GroupExists(String),
    /// The logstore has no such consumer group.
    #[error("consumer group not exist")]
    NoGroup(String),
    /// A logstore has as many consumer groups as it may.
    #[error("a logstore has at most {0} consumer groups: delete one first")]
    GroupQuota(usize),
    /// The consumer is no member of the group, or no longer.
    #[error("consumer {0} does not exist, or was silent for longer than the group's timeout")]
    NoConsumer(String),
    /// The shard is another consumer's.
    #[error("shard {shard} is not held by consumer {consumer}")]
    NotOwner {
        /// The number of the shard.
        shard: u32,
        /// Who asked.
        consumer: String,
    },
    /// The logstore has no such rule.
    #[error("The shipper {0} does not exist")]
    NoRule(String),
    /// The rule is there already.
    #[error("shipper {0} already exists")]
    RuleExists(String),
    /// There was a rule of this name.
    #[error("shipper {0} was deleted, and its name can't be taken again: choose another")]
    RuleNameTaken(String),
    /// The shard's next task begins elsewhere by now.
    #[error("the next task of the shard begins at {0}")]
    Overtaken(Place),
    /// No stage has the name.
    #[error("no stage is called {0}")]
    NoStage(String),
    /// A name of a stage stands for something else by now.
    #[error("stage {0} was changed meanwhile: look at it, and try again")]
    StageChanged(String),
    /// Names of stages stand for something else than what the task was to be made by.
    #[error("stages were changed meanwhile")]
    StagesChanged,
    /// There is no such task, or it is not to be tried.
    #[error("task {0} does not exist")]
    NoTask(String),
    /// Another process has the data directory.
    #[error("{} is in use by another process: stop it, or take another data directory", .0.display())]
    Locked(PathBuf),
    /// The file is not a store, or that of a later logship.
    #[error("{} is no store that this logship can read (its version is {version}, known are those to {known})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its schema's version.
        version: usize,
        /// The newest version known.
        known: usize,
    },
    /// A file of the data directory could not be made.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database failed: a full disk as a rule.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// What others in the same commit met; nothing was stored.
    #[error("the commit failed: {0}")]
    Commit(String),
    /// The store is being closed.
    #[error("the store is being closed")]
    Closed,
}
