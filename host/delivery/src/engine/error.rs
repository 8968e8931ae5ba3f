//! Errors of plans and tasks.

use std::error::Error;

use logship_config::rule::RuleError;
use logship_logstore::{CONFIG_NOT_EXIST, LogPosition, StoreError};
use logship_runtime::stage::{Identity, StageError};
use logship_sink::error::SinkError;
use logship_source::shard_reader::SourceError;

use crate::pipeline::PipelineError;

/// An error in making or reading a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The rule or one of its stages is wrong.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The destination is wrong.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The receiver's settings are wrong.
    #[error("receiver {name}: {source}")]
    Receiver {
        /// The receiver.
        name: String,
        /// The cause.
        source: SinkError,
    },
    /// The destination rejects the rule, or does not fit its stages.
    #[error(transparent)]
    Destination(#[from] Failure),
    /// The stored plan can't be parsed: another version of logship wrote it.
    #[error("can't read the plan of the task: {0}")]
    Record(#[from] serde_json::Error),
    /// The stored plan was deleted together with its task.
    #[error("the plan of the task was deleted together with the task")]
    Gone,
    /// The output can't be read back from its destination.
    #[error("{0}")]
    Unreadable(&'static str),
    /// The rule has a target type that this version of logship does not ship to.
    #[error(
        "rules of type {0} are stored but not shipped: this version of logship ships to object stores (oss), SIEMs (siem), MaxCompute (odps) and Table Store (ots)"
    )]
    Target(String),
}

impl PlanError {
    /// The error code of Log Service.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Destination(failure) => failure.code,
            Self::Sink(error) => error.code(),
            _ => "InternalServerError",
        }
    }
}

impl From<RuleError> for PlanError {
    fn from(error: RuleError) -> Self {
        PipelineError::from(error).into()
    }
}

/// A failed delivery, described by its kind of work.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    cause: Box<dyn Error + Send + Sync>,
    /// The error code of Log Service.
    pub(crate) code: &'static str,
    /// True if a retry may succeed.
    pub(crate) is_retryable: bool,
    /// The delay that the destination asks for, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// True if the destination failed; `None` if it was not called.
    pub(crate) destination_failed: Option<bool>,
    /// The function whose stage failed, if one did.
    pub(crate) function: Option<String>,
}

impl Failure {
    /// Describes an error that a retry may solve. The destination was not called.
    pub(crate) fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (code, cause) = ("InternalServerError", cause.into());
        Self { cause, code, is_retryable: true, retry_after: None, destination_failed: None, function: None }
    }
}

/// The cause of a failed task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The plan can't be built.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The output can't be delivered.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The logs can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The logs were deleted.
    #[error(
        "the logstore's time to live deleted the logs from cursor {from} to {to} before they were {delivered}"
    )]
    Expired {
        /// Cursor of the first missing log.
        from: u64,
        /// Cursor of the first available log.
        to: u64,
        /// The participle of the delivery.
        delivered: &'static str,
    },
    /// The store failed, usually the disk.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The attempt panicked.
    #[error("the attempt panicked, which is a bug of logship: please report it with the service's log. {0}")]
    Panicked(String),
    /// The service is stopping. The task is resumed after the next start.
    #[error("the service is stopping")]
    Stopping,
}

impl TaskError {
    /// The error code of Log Service.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Failure(failure) => failure.code,
            Self::Plan(error) => error.code(),
            Self::Store(StoreError::NoRule(_)) => CONFIG_NOT_EXIST,
            _ => "InternalServerError",
        }
    }

    /// The digest of the stage that failed, or the function, if one did.
    pub(super) fn stage(&self) -> Option<&str> {
        let error = match self {
            Self::Failure(failure) => return failure.function.as_deref(),
            Self::Stage(error) | Self::Plan(PlanError::Pipeline(PipelineError::Stage(error))) => error,
            Self::Plan(PlanError::Pipeline(PipelineError::Transform(error))) => &error.source,
            _ => return None,
        };
        error.stage().map(Identity::digest)
    }

    /// The end of the logs that can't be read any more, if the logs from `begin` on were deleted or are damaged.
    pub(super) fn end_of_lost_logs(&self, begin: LogPosition) -> Option<LogPosition> {
        match self {
            Self::Expired { to, .. } => Some(LogPosition::at(*to)),
            Self::Source(SourceError::Store(StoreError::Damaged(damage)))
                if damage.position == begin.cursor =>
            {
                Some(LogPosition::at(damage.end()))
            }
            _ => None,
        }
    }

    /// True if a retry may succeed.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.is_retryable,
            Self::Expired { .. } | Self::Store(StoreError::NoRule(_) | StoreError::NoLogstore(_)) => false,
            _ => true,
        }
    }

    /// The delay that the destination asks for, in seconds.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Failure(failure) => failure.retry_after,
            _ => None,
        }
    }

    /// True if the destination failed; `None` if it was not called. The rule then gets a single worker.
    pub(super) fn destination_failed(&self) -> Option<bool> {
        match self {
            Self::Failure(failure) => failure.destination_failed,
            // A stage that fails or times out must not block other rules either.
            Self::Stage(_) => Some(true),
            _ => None,
        }
    }

    /// True if the task did not fail but was interrupted. It stays running, and the next start resumes it.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Stopping | Self::Store(StoreError::Closed | StoreError::NoTask(_)))
    }
}
