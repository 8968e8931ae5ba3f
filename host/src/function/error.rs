//! Why a call made no object, and whether it can be made another time.

use std::time::Duration;

use reqwest::StatusCode;

/// Why a function made no object, or did not say so.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What is wrong.
    pub(super) message: String,
    /// What Log Service calls it.
    pub(super) code: &'static str,
    pub(super) again: Again,
    /// How long it asks to be left alone.
    pub(super) rest: Option<Duration>,
    /// Whether the call was too large for something.
    pub(super) is_too_large: bool,
}

/// Whether another time the same call can be answered otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// At once, maybe.
    Soon,
    /// When something was mended.
    Later,
    /// Never.
    No,
}

impl CallError {
    pub(super) fn new(again: Again, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { message, code: "InternalServerError", again, rest: None, is_too_large: false }
    }

    /// What Log Service calls it.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Whether it can be another time.
    pub fn can_pass(&self) -> bool {
        self.again != Again::No
    }

    /// How long the function, or where it delivers to, asks to be left alone.
    pub fn rest(&self) -> Option<Duration> {
        self.rest
    }

    /// Whether fewer logs may be taken.
    pub(crate) fn is_too_large(&self) -> bool {
        self.is_too_large
    }
}

/// Whether a call that was answered so can be answered otherwise.
pub(super) fn again(status: StatusCode) -> Again {
    match status.as_u16() {
        429 | 502..=504 => Again::Soon,
        // A token, a rule, or a proxy's patience: what others mend.
        401 | 403 | 404 | 407 | 408 | 421 | 425 => Again::Later,
        400..500 => Again::No,
        _ => Again::Later,
    }
}

/// What Log Service calls a refusal.
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
    fn an_answer_tells_whether_to_call_again() {
        let of = |status: u16| again(StatusCode::from_u16(status).unwrap());
        for status in [429, 502, 503, 504] {
            assert_eq!(of(status), Again::Soon, "{status}");
        }
        for status in [401, 403, 404, 408, 500, 501, 302] {
            assert_eq!(of(status), Again::Later, "{status}");
        }
        for status in [400, 405, 409, 411, 413, 415, 422, 431] {
            assert_eq!(of(status), Again::No, "{status}");
        }
    }
}
