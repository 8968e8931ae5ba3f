//! Errors of calls, and whether a retry can succeed.

use std::time::Duration;

use reqwest::StatusCode;

/// A failed call of a function.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// The problem.
    pub(super) message: String,
    /// The corresponding error code of Log Service.
    pub(super) code: &'static str,
    pub(super) retry: Retry,
    /// The delay that the function asks for.
    pub(super) retry_after: Option<Duration>,
    /// True if the call was too large.
    pub(super) is_too_large: bool,
}

/// The prospect of a retry of the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// A retry may succeed at once.
    Soon,
    /// A retry may succeed at once, alone: a stage failed, perhaps one of a concurrent call in the same instance.
    Alone,
    /// A retry may succeed after somebody has fixed the problem.
    Later,
    /// A retry always fails.
    Never,
}

impl CallError {
    pub(super) fn new(retry: Retry, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { message, code: "InternalServerError", retry, retry_after: None, is_too_large: false }
    }

    /// Returns the corresponding error code of Log Service.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// True if a retry can succeed.
    pub fn is_retryable(&self) -> bool {
        self.retry != Retry::Never
    }

    /// Returns the delay that the function, or its destination, asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// True if a stage of the function failed. A call is retried alone before.
    pub(crate) fn is_stage_failure(&self) -> bool {
        self.retry == Retry::Alone
    }

    /// True if a call with fewer logs may succeed.
    pub(crate) fn is_too_large(&self) -> bool {
        self.is_too_large
    }
}

/// Returns whether a retry can succeed after this status.
pub(super) fn retry_for(status: StatusCode) -> Retry {
    match status.as_u16() {
        429 | 502..=504 => Retry::Soon,
        // A token, a rule, or a proxy's timeout, which others can fix.
        401 | 403 | 404 | 407 | 408 | 421 | 425 => Retry::Later,
        400..500 => Retry::Never,
        _ => Retry::Later,
    }
}

/// Returns the Log Service error code of a rejected call.
pub(super) fn code(status: StatusCode, kind: &str) -> &'static str {
    match (status.as_u16(), kind) {
        (401 | 403, _) | (_, "destination-refused" | "destination-forbidden") => "UnAuthorized",
        (_, "destination-missing") => "InvalidOssBucket",
        _ => "InternalServerError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_decides_retry() {
        let of = |status: u16| retry_for(StatusCode::from_u16(status).unwrap());
        for status in [429, 502, 503, 504] {
            assert_eq!(of(status), Retry::Soon, "{status}");
        }
        for status in [401, 403, 404, 408, 500, 501, 302] {
            assert_eq!(of(status), Retry::Later, "{status}");
        }
        for status in [400, 405, 409, 411, 413, 415, 422, 431] {
            assert_eq!(of(status), Retry::Never, "{status}");
        }
    }
}
