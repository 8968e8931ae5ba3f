//! Panics of tasks. A panic is a bug, and must cost its task an attempt only: the task fails and is retried.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::error::TaskError;

/// Runs a step of a task. A panic becomes an error.
pub(super) fn catch<T>(step: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| Err(TaskError::Panicked(message(&*panic))))
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}
