//! Errors of requests.

use logship_sls::error::{ApiError, ErrorCode};

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service rejected the request.
    #[error(transparent)]
    Rejected(#[from] ApiError),
    /// The service was not reached, or the connection broke.
    #[error("{url}: {}", chain(.source))]
    Connection {
        /// The endpoint.
        url: String,
        /// The error.
        source: reqwest::Error,
    },
    /// The reply is not a valid reply of Log Service.
    #[error("{url} answered with status {status} and an invalid Log Service reply: {message}")]
    Reply {
        /// The endpoint.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The error, or the start of the body.
        message: String,
    },
}

/// Formats an error with its causes, as reqwest's errors display only themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl ClientError {
    /// Returns true if a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rejected(error) => error.status() >= 500 || error.code == ErrorCode::ServerBusy,
            Self::Connection { .. } => true,
            Self::Reply { status, .. } => *status >= 500,
        }
    }
}
