//! Errors of calls.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Trap;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The instance trapped, or exceeded its memory limit.
    #[error("the function trapped: {}{}", describe_cause(.cause), neighbors(*.calls))]
    Trap {
        /// The error.
        cause: Arc<wasmtime::Error>,
        /// The number of concurrent calls that ended with the instance.
        calls: usize,
    },
    /// The function returned an error.
    #[error("the function failed: {0}")]
    Failed(String),
    /// The call exceeded its timeout.
    #[error("the function exceeded its timeout of {} s", .0.as_secs_f64())]
    Timeout(Duration),
}

impl CallError {
    /// The error of a call that is alone in its instance.
    pub(crate) fn trap(cause: wasmtime::Error) -> Self {
        Self::Trap { cause: Arc::new(cause), calls: 1 }
    }

    /// The error of a call whose instance ended without an answer.
    pub(crate) fn lost() -> Self {
        Self::Failed("its instance ended before it answered".into())
    }
}

/// Describes the cause of a trap. A wasm trap is shown with its backtrace; an error of an import is shown alone.
fn describe_cause(error: &wasmtime::Error) -> String {
    if error.is::<Trap>() { format!("{error:#}") } else { error.root_cause().to_string() }
}

/// Describes the calls that ended with their instance.
fn neighbors(calls: usize) -> String {
    if calls < 2 {
        return String::new();
    }
    format!(
        " (this ended all {calls} calls of the instance: with --max-instance-concurrent-reuse-count 1, it ends only its own)"
    )
}
