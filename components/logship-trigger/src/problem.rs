//! What went wrong, for the caller.

use serde_json::json;

/// A problem, as `application/problem+json` (RFC 9457) has it.
///
/// The status tells whether trying again can help: with one of 5xx, 429, 401 (another token), or 404 (the function does
/// not know the rule yet), it can; with any other of 4xx the same call always ends so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What kind it is: the last part of `urn:logship:problem:…`.
    pub kind: &'static str,
    /// What is wrong, and what would be right.
    pub detail: String,
    /// Seconds after which to try again, where the destination said so.
    pub retry_after: Option<String>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None }
    }

    /// The call lacks something.
    pub fn bad_call(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-call", detail)
    }

    /// The body is none that a batch can be read from.
    pub fn bad_batch(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-batch", detail)
    }

    /// The body is larger than the function takes.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(413, "too-large", detail)
    }

    /// The function's own settings are wrong.
    pub fn settings(detail: impl Into<String>) -> Self {
        Self::new(500, "settings", detail)
    }

    /// A stage can't make what the rule asks for of these logs.
    pub fn rejected(detail: impl Into<String>) -> Self {
        Self::new(422, "rejected", detail)
    }

    /// Whether the same call can end otherwise another time.
    pub fn can_pass(&self) -> bool {
        self.status >= 500 || matches!(self.status, 401 | 404 | 429)
    }

    /// The body of the answer.
    pub fn body(&self) -> String {
        json!({
            "type": format!("urn:logship:problem:{}", self.kind),
            "title": self.kind.replace('-', " "),
            "status": self.status,
            "detail": self.detail,
            "retry": self.can_pass(),
        })
        .to_string()
    }
}
