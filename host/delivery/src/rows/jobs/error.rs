//! Errors of runs.

use logship_client::ClientError;
use logship_config::job::JobError;
use logship_logstore::StoreError;
use logship_sink::maxcompute::{Class, MaxComputeError};
use logship_source::shard_reader::SourceError;

/// The cause of a failed attempt.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The job, or a value of its parameters, is wrong.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The window ends in the future: more logs may arrive in it.
    #[error("the window ends in the future, at Unix time {end}: logs may still arrive in it")]
    Future {
        /// The end of the window, in Unix seconds.
        end: u64,
    },
    /// A data source can't be used.
    #[error("data source {name}: {problem}")]
    Source {
        /// The name.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The destination failed.
    #[error(transparent)]
    Destination(#[from] MaxComputeError),
    /// The table has other columns than the plan.
    #[error(
        "table {0} was changed after the plan of the run was made: run its window anew, with `logship job run`"
    )]
    TableChanged(String),
    /// A stage failed.
    #[error("{0}")]
    Stage(String),
    /// Another service can't be read.
    #[error("can't read the logs of another service: {0}")]
    Remote(#[from] ClientError),
    /// The logs can't be read.
    #[error(transparent)]
    Logs(#[from] SourceError),
    /// The logs were deleted.
    #[error(
        "the logstore's time to live deleted logs of shard {shard} from cursor {from} to {to} before they were written"
    )]
    Expired {
        /// The shard.
        shard: u32,
        /// Cursor of the first missing log group.
        from: u64,
        /// Cursor of the first available log group.
        to: u64,
    },
    /// The rows were appended before.
    #[error(
        "run {run} has {verb} rows from {begin} to {end} to {place}: rows of the same logs would be there twice. Allow it with --allow-duplicates"
    )]
    Duplicates {
        /// The run before.
        run: i64,
        /// The certainty.
        verb: &'static str,
        /// The begin of its window.
        begin: String,
        /// The end of its window.
        end: String,
        /// The table and the partition.
        place: String,
    },
    /// Logs of the window may be deleted.
    #[error(
        "the logstore's time to live may have deleted logs of shard {shard} that arrived from {begin} on, before they were read: nothing was written. `logship job run` writes the rows of those that are left"
    )]
    MayBeExpired {
        /// The shard.
        shard: u32,
        /// The begin of the window, in Unix seconds.
        begin: u64,
    },
    /// A shard has more blocks than a session can have for it.
    #[error("shard {shard} has more than {blocks} blocks: divide the window into smaller ones")]
    TooManyBlocks {
        /// The shard.
        shard: u32,
        /// The number of blocks.
        blocks: u32,
    },
    /// There are too many dirty rows.
    #[error(
        "{dirty} dirty rows of {rows} are more than errorLimit allows: nothing was written. First: {first}. `logship deadletter list` shows them all"
    )]
    DirtyRows {
        /// The number of dirty rows.
        dirty: u64,
        /// The number of all rows.
        rows: u64,
        /// The first reason.
        first: String,
    },
    /// The dead letters can't be stored.
    #[error("can't keep the dirty rows as dead letters: {0}")]
    DeadLetters(String),
    /// It is unknown whether the session was committed.
    #[error(
        "the answer of the commit was lost, and the upload session {session} is gone ({why}): the rows may be in {place} or not. Count its rows; the run has {rows}. If they are missing, run it again with `logship job rerun --allow-duplicates`"
    )]
    Unclear {
        /// The session.
        session: String,
        /// The reason.
        why: String,
        /// The table and the partition.
        place: String,
        /// The number of rows.
        rows: u64,
    },
    /// The session is gone before its commit. The next attempt opens another one.
    #[error("the upload session is gone: {0}")]
    SessionGone(String),
    /// Dirty rows of a run can't go back to its table, because its other rows are not there.
    #[error(
        "the rows of run {run} are not in the table, because it is {state}: `logship job rerun` writes them and the dirty rows"
    )]
    NotWritten {
        /// The run.
        run: i64,
        /// Its state.
        state: &'static str,
    },
    /// Dirty rows of a run can't go back to its table, because another run has replaced its rows.
    #[error(
        "run {by} has replaced the rows of run {run}, which has these dirty rows: write them to a file, with --to file:PATH"
    )]
    Replaced {
        /// The run of the dirty rows.
        run: i64,
        /// The run that has replaced its rows.
        by: i64,
    },
    /// The store failed, usually the disk.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The run was stopped on request.
    #[error("the run was stopped")]
    Stopped,
    /// The service is stopping. The run goes on after the next start.
    #[error("the service is stopping")]
    Stopping,
    /// A part of the program panicked.
    #[error("the attempt panicked, which is a bug of logship: please report it with the service's log. {0}")]
    Panicked(String),
}

impl RunError {
    /// The error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Job(_) | Self::Future { .. } | Self::TooManyBlocks { .. } => "JobInvalid",
            Self::Duplicates { .. } => "DuplicateRows",
            Self::Source { .. } => "DataSourceInvalid",
            Self::Destination(error) => match error.class() {
                Class::Unauthorized => "Unauthorized",
                Class::Configuration | Class::Rejected => "DestinationInvalid",
                _ => "DestinationUnavailable",
            },
            Self::TableChanged(_) => "TableChanged",
            Self::Stage(_) => "StageFailed",
            Self::Remote(_) => "SourceUnavailable",
            Self::Expired { .. } | Self::MayBeExpired { .. } => "LogsExpired",
            Self::DirtyRows { .. } => "TooManyDirtyRows",
            Self::Unclear { .. } => "CommitUnclear",
            Self::SessionGone(_) => "SessionGone",
            _ => "InternalServerError",
        }
    }

    /// Returns true if a retry may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Destination(error) => !matches!(error.class(), Class::Configuration | Class::Rejected),
            Self::Job(_)
            | Self::Future { .. }
            | Self::TableChanged(_)
            | Self::Expired { .. }
            | Self::MayBeExpired { .. }
            | Self::TooManyBlocks { .. }
            | Self::Duplicates { .. }
            | Self::DirtyRows { .. }
            | Self::NotWritten { .. }
            | Self::Replaced { .. }
            | Self::Unclear { .. } => false,
            Self::Store(error) => !matches!(error, StoreError::NoLogstore(_) | StoreError::NoProject(_)),
            _ => true,
        }
    }

    /// Returns true if the run needs another session.
    pub(super) fn needs_new_session(&self) -> bool {
        match self {
            Self::SessionGone(_) => true,
            Self::Destination(error) => matches!(error.class(), Class::NewSession | Class::SessionDone),
            _ => false,
        }
    }

    /// Returns true if the attempt did not fail but was interrupted.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Stopped | Self::Stopping | Self::Store(StoreError::Closed))
    }
}
