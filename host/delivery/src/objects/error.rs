//! Errors of objects, as the engine records them.

use logship_sink::error::SinkError;

use crate::engine::error::{Failure, PlanError, TaskError};
use crate::executor::CallError;
use crate::objects::object::ObjectError;

/// Some objects are published already, and a retry made different ones.
#[derive(Debug, thiserror::Error)]
#[error(
    "its stages made different objects than before, and some are published already (such as {existing}). Nothing was written: a stage must make the same output from the same logs"
)]
pub(super) struct Changed {
    /// The key of a published object.
    pub(super) existing: String,
}

impl From<Changed> for TaskError {
    fn from(error: Changed) -> Self {
        Failure::new(error).into()
    }
}

impl From<SinkError> for TaskError {
    fn from(error: SinkError) -> Self {
        let code = error.code();
        let mut failure = Failure::new(error);
        failure.code = code;
        failure.destination_failed = Some(true);
        failure.into()
    }
}

impl From<ObjectError> for TaskError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Stage(error) => error.into(),
            ObjectError::Sink(error) => error.into(),
            ObjectError::Lost(_) => Failure::new(error).into(),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let (code, is_retryable) = (error.code(), error.is_retryable());
        let retry_after = error.retry_after().map(|delay| delay.as_secs());
        let mut failure = Self::new(error);
        (failure.code, failure.is_retryable, failure.retry_after) = (code, is_retryable, retry_after);
        // A permanent error is the object's fault, not the destination's.
        failure.destination_failed = Some(is_retryable);
        failure
    }
}

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        Failure::from(error).into()
    }
}

impl From<CallError> for PlanError {
    fn from(error: CallError) -> Self {
        Failure::from(error).into()
    }
}
