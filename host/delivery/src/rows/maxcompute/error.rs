//! Errors of rows, as the engine records them.

use logship_sink::maxcompute::{Class, MaxComputeError};

use crate::engine::error::{Failure, TaskError};
use crate::rows::encode::RowEncodingError;

/// An error of rows that no other kind has.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    /// It can't be found out whether rows are visible.
    #[error(
        "it is not known whether the rows of this task are in {place}: a commit of upload session {session} was sent, its answer was lost, and the session is gone ({why}). Nothing was written again. Count the task's rows there, for example by a column with the log's cursor; if they are missing, retry the task, which writes them again"
    )]
    Unclear {
        /// The table and partition.
        place: String,
        /// The session.
        session: String,
        /// The reason why the session tells nothing.
        why: String,
    },
    /// A session ended before its commit.
    #[error(
        "upload session {session} of {place} ended before its commit: the task opens another one ({why})"
    )]
    Ended {
        /// The table and partition.
        place: String,
        /// The session.
        session: String,
        /// The reason.
        why: String,
    },
    /// A log has no row, and the rule keeps none of them out.
    #[error(
        "{count} logs have no row, the first at {position}: {reason}. Set filter_invalid = true to leave such logs out"
    )]
    Dirty {
        /// The number of logs.
        count: usize,
        /// The position of the first.
        position: String,
        /// The reason of the first.
        reason: String,
    },
    /// The rule does not fit the table.
    #[error("{0}")]
    Table(String),
}

impl From<RowError> for TaskError {
    fn from(error: RowError) -> Self {
        let is_unclear = matches!(error, RowError::Unclear { .. });
        let mut failure = Failure::new(error);
        failure.is_retryable = !is_unclear;
        failure.into()
    }
}

/// Describes an error of MaxCompute.
pub(super) fn failure(error: MaxComputeError) -> Failure {
    let class = error.class();
    let mut failure = Failure::new(error);
    if class == Class::Unauthorized {
        failure.code = "UnAuthorized";
    }
    failure.destination_failed = Some(true);
    failure
}

impl From<RowEncodingError> for TaskError {
    fn from(error: RowEncodingError) -> Self {
        match error {
            RowEncodingError::Stage(error) => error.into(),
            RowEncodingError::Transform(error) => error.source.into(),
        }
    }
}
