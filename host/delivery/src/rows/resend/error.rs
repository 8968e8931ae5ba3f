//! Errors of resends.

use logship_logstore::StoreError;
use logship_runtime::stage::StageError;
use logship_sink::error::SinkError;
use logship_sink::table_store::TableStoreError;

use crate::dead_letter::DeadLetterError;
use crate::engine::error::TaskError;
use crate::rows::jobs::RunError;
use crate::rows::table_store::write::Inseparable;

/// The cause of a failed resend. The dead letters are kept.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// The key is not one of the project.
    #[error(
        "{key:?} is no object of dead letters of project {project}: `logship deadletter list` shows them"
    )]
    Foreign {
        /// The key.
        key: String,
        /// The project.
        project: String,
    },
    /// Another resend is in progress.
    #[error("another resend of rows is in progress: wait for its end")]
    Busy,
    /// The letters are events.
    #[error("these are events that a receiver rejected: resend them with --to URL")]
    Events,
    /// Nothing writes to the table any more.
    #[error(
        "no rule and no job {name} writes rows to {table} now: create it again, or write the logs to a file, with --to file:PATH"
    )]
    NoOwner {
        /// The rule or job.
        name: String,
        /// The table.
        table: String,
    },
    /// It is unknown which task or run the letters belong to.
    #[error(
        "an older logship saved these letters without their task, so their logs may be rows already: write them to a file, with --to file:PATH"
    )]
    NoWork,
    /// The task of the letters has not succeeded.
    #[error(
        "task {0} has not written its other rows yet: retry it, with `logship task retry {0}`; it encodes the dirty logs again"
    )]
    Unfinished(String),
    /// The task of the letters is not known any more.
    #[error(
        "task {0} is not known any more (shipping.keep-tasks-seconds), so these logs may be rows already: write them to a file, with --to file:PATH"
    )]
    NoTask(String),
    /// A transformer makes several logs of one.
    #[error(
        "a transformer makes several logs of one, and some of them may be rows already: write them to a file, with --to file:PATH"
    )]
    Several,
    /// The columns of the table changed in the meantime.
    #[error("the columns of {0} changed meanwhile: resend the letters again")]
    TableChanged(String),
    /// The answer of a commit is lost for good.
    #[error(
        "it is not known whether {rows} rows are in {place}: the answer of the commit was lost, and the upload session {session} is gone ({why}). Count the rows there. If they are missing, resend the letters again; if not, write them to a file, with --to file:PATH"
    )]
    Unclear {
        /// The number of rows.
        rows: usize,
        /// The table and partition.
        place: String,
        /// The session.
        session: String,
        /// The reason.
        why: String,
    },
    /// The upload session ended before its commit.
    #[error("the upload session ended before its commit: resend the letters again ({0})")]
    Ended(String),
    /// The time limit is over.
    #[error("the destination does not answer in time: resend the letters again, which goes on where it was")]
    Slow,
    /// The saved state can't be read: another version of logship wrote it.
    #[error("can't read how far the letters were resent: {0}")]
    Saved(#[from] serde_json::Error),
    /// The letters can't be read.
    #[error(transparent)]
    Letters(#[from] DeadLetterError),
    /// The letters can't be stored.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The store failed, or has no such job or run.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job or its table is wrong.
    #[error(transparent)]
    Run(Box<RunError>),
    /// The rule or its table is wrong.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The row encoder is for another destination.
    #[error(transparent)]
    Inseparable(#[from] Inseparable),
    /// Table Store failed.
    #[error(transparent)]
    TableStore(#[from] TableStoreError),
}

impl From<RunError> for ResendError {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}
