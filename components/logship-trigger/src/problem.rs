//! Errors for the caller.

use serde_json::json;

/// A problem: an error response of type `application/problem+json` (RFC 9457).
///
/// The status tells whether a retry can help. It can for 5xx, 429, 401 (another token) and 404 (the function does not
/// know the rule yet). For any other 4xx, the same call always fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem: the last part of `urn:logship:problem:…`.
    pub kind: &'static str,
    /// The problem, and how to fix it.
    pub detail: String,
    /// The destination's `Retry-After`, in seconds, if it sent one.
    pub retry_after: Option<String>,
}

impl Problem {
    /// Returns a problem of a kind.
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None }
    }

    /// Returns a problem for a missing or invalid parameter of the call.
    pub fn bad_call(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-call", detail)
    }

    /// Returns a problem for a body that cannot be parsed as a batch.
    pub fn bad_batch(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-batch", detail)
    }

    /// Returns a problem for a body that exceeds the function's limit.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(413, "too-large", detail)
    }

    /// Returns a problem for invalid settings of the function.
    pub fn settings(detail: impl Into<String>) -> Self {
        Self::new(500, "settings", detail)
    }

    /// Returns a problem for logs that a stage rejects.
    pub fn rejected(detail: impl Into<String>) -> Self {
        Self::new(422, "rejected", detail)
    }

    /// Returns true if a retry of the same call can succeed.
    pub fn is_retryable(&self) -> bool {
        self.status >= 500 || matches!(self.status, 401 | 404 | 429)
    }

    /// Returns the body of the response.
    pub fn body(&self) -> String {
        json!({
            "type": format!("urn:logship:problem:{}", self.kind),
            "title": self.kind.replace('-', " "),
            "status": self.status,
            "detail": self.detail,
            "retry": self.is_retryable(),
        })
        .to_string()
    }
}
