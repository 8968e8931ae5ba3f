//! Errors of tasks.

use logship_logstore::{CONFIG_NOT_EXIST, StoreError};

use crate::engine::plan::PlanError;
use crate::executor::CallError;
use crate::objects::object::ObjectError;
use crate::pipeline::PipelineError;
use logship_runtime::stage::{Identity, StageError};
use logship_sink::error::SinkError;
use logship_source::shard_reader::SourceError;

/// The cause of a failed task.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    /// The plan can't be built.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The call of a function failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The logs can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The logs were deleted.
    #[error(
        "the logstore's time to live deleted the logs from cursor {from} to {to} before they were shipped"
    )]
    Expired {
        /// Cursor of the first missing log.
        from: u64,
        /// Cursor of the first available log.
        to: u64,
    },
    /// The store failed, usually the disk.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// Some objects are published already, and a retry made different ones.
    #[error(
        "its stages made different objects than before, and some are published already (such as {existing}). Nothing was written: a stage must make the same output from the same logs"
    )]
    Changed {
        /// The key of a published object.
        existing: String,
    },
    /// The service is stopping. The task is resumed after the next start.
    #[error("the service is stopping")]
    Stopping,
}

impl From<ObjectError> for TaskError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Stage(error) => error.into(),
            ObjectError::Sink(error) => error.into(),
        }
    }
}

impl TaskError {
    /// The error code of Log Service.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Sink(error) | Self::Plan(PlanError::Sink(error)) => error.code(),
            Self::Call(error) | Self::Plan(PlanError::Call(error)) => error.code(),
            Self::Store(StoreError::NoRule(_)) => CONFIG_NOT_EXIST,
            _ => "InternalServerError",
        }
    }

    /// The digest of the stage that failed, if one did.
    pub(super) fn stage(&self) -> Option<&str> {
        let error = match self {
            Self::Stage(error) | Self::Plan(PlanError::Pipeline(PipelineError::Stage(error))) => error,
            Self::Plan(PlanError::Pipeline(PipelineError::Transform(error))) => &error.source,
            _ => return None,
        };
        error.stage().map(Identity::digest)
    }

    /// True if a retry may succeed.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retryable(),
            Self::Expired { .. } | Self::Store(StoreError::NoRule(_) | StoreError::NoLogstore(_)) => false,
            _ => true,
        }
    }

    /// The delay that the destination asks for, in seconds.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Call(error) => Some(error.retry_after()?.as_secs()),
            _ => None,
        }
    }

    /// True if the destination failed; `None` if it was not called. The rule then gets a single worker.
    pub(super) fn destination_failed(&self) -> Option<bool> {
        match self {
            // A permanent error is the object's fault, not the destination's.
            Self::Call(error) => Some(error.is_retryable()),
            // A stage that fails or times out must not block other rules either.
            Self::Sink(_) | Self::Stage(_) => Some(true),
            _ => None,
        }
    }

    /// True if the task did not fail but was interrupted. It stays running, and the next start resumes it.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Stopping | Self::Store(StoreError::Closed | StoreError::NoTask(_)))
    }
}
