//! Why tasks fail.

use logship_logstore::{CONFIG_NOT_EXIST, StoreError};

use super::plan::PlanError;
use crate::destination::DestinationError;
use crate::object::ObjectError;
use crate::pipeline::PipelineError;
use crate::source::SourceError;
use crate::stage::{Identity, StageError};

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    /// Its stages can't be had.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The destination failed.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Its logs can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its logs are no more.
    #[error(
        "its logs from cursor {from} to {to} were deleted by the time to live of the logstore before they were shipped"
    )]
    Expired {
        /// The first that is missing.
        from: u64,
        /// The first that is there.
        to: u64,
    },
    /// The store failed: the disk, as a rule.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// Some of its objects are at their destination, and those that its stages make now are not the same.
    #[error(
        "its stages made other objects than before, and some of those are at the destination already ({there} is one). Nothing was written beside them: a stage must make the same of the same logs"
    )]
    Changed {
        /// The key of one of them.
        there: String,
    },
    /// The service ends; the task goes on with the next start.
    #[error("the service ends")]
    Ended,
}

impl From<ObjectError> for TaskError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Stage(error) => error.into(),
            ObjectError::Destination(error) => error.into(),
        }
    }
}

impl TaskError {
    /// What Log Service calls it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Destination(error) | Self::Plan(PlanError::Destination(error)) => error.code(),
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

    /// Whether it can be another time.
    pub(super) fn can_pass(&self) -> bool {
        match self {
            Self::Destination(DestinationError::Function(error)) => error.can_pass(),
            Self::Expired { .. } | Self::Store(StoreError::NoRule(_) | StoreError::NoLogstore(_)) => false,
            _ => true,
        }
    }

    /// How many seconds the destination asks to be left alone.
    pub(super) fn rest(&self) -> Option<u64> {
        match self {
            Self::Destination(DestinationError::Function(error)) => Some(error.rest()?.as_secs()),
            _ => None,
        }
    }

    /// Whether the destination did not do what it was asked for, if it was asked: others need not ask it now.
    pub(super) fn destination_failed(&self) -> Option<bool> {
        match self {
            // What it never takes says nothing of it.
            Self::Destination(DestinationError::Function(error)) => Some(error.can_pass()),
            // One whose stage fails, or does not end, holds up the others as little as one whose destination does.
            Self::Destination(_) | Self::Stage(_) => Some(true),
            _ => None,
        }
    }

    /// Whether it is no failure of the task: it stays as it is, and the next start goes on with it.
    pub(super) fn leaves_it(&self) -> bool {
        matches!(self, Self::Ended | Self::Store(StoreError::Closed | StoreError::NoTask(_)))
    }
}
