//! Responses and errors of HEC: which events are accepted, rejected for good, or sent again.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::error::SinkError;

/// The outcome of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All events are accepted. Has the id of the acknowledgement to query.
    Accepted(Option<u64>),
    /// An event is permanently rejected.
    Rejected(Rejection),
    /// A retryable failure, with the retry delay that the receiver asks for.
    Failed(String, Option<Duration>),
}

/// The permanent rejection of an event.
#[derive(Debug)]
pub(super) struct Rejection {
    /// Index of the event in the request, if the receiver gives it.
    pub(super) number: Option<usize>,
    pub(super) code: String,
    pub(super) reason: String,
}

/// The body of a HEC response.
#[derive(Debug, Default, Deserialize)]
struct HecResponse {
    #[serde(default)]
    text: String,
    code: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
    #[serde(rename = "ackId")]
    acknowledgement: Option<u64>,
}

/// Code: all events of the request are accepted.
const SUCCESS: u64 = 0;

/// Codes of permanent errors in an event: no data, invalid data format, event field is required, event field cannot be
/// blank, error in handling indexed fields.
const EVENT_ERRORS: [u64; 5] = [5, 6, 12, 13, 15];

/// Code: the request has no events.
const NO_DATA: u64 = 5;

/// Code: the token does not allow the event's index.
const INCORRECT_INDEX: u64 = 7;

/// Code: indexer acknowledgement is disabled for the token.
pub(super) const NO_ACKNOWLEDGEMENTS: u64 = 14;

/// Characters of the receiver's text that are kept with each event.
const MAX_REASON_CHARS: usize = 500;

/// The delay of a response's `Retry-After` header.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The message of an error and its causes, without the URL.
pub(super) fn error_chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Interprets a response to events.
pub(super) fn outcome(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Outcome {
    let HecResponse { text, code, invalid, acknowledgement } =
        serde_json::from_slice(body).unwrap_or_default();
    let text: String = text.chars().take(MAX_REASON_CHARS).collect();
    let message = match code {
        Some(code) => format!("{status}: {text} (code {code})"),
        None => format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)])),
    };
    let rejected = |number, code: String, reason| Outcome::Rejected(Rejection { number, code, reason });
    match (status, code) {
        (StatusCode::OK, Some(SUCCESS)) => Outcome::Accepted(acknowledgement),
        // Probably a page of a proxy.
        (StatusCode::OK, _) => Outcome::Failed(format!("{message}: not a HEC response"), retry_after),
        (StatusCode::BAD_REQUEST, Some(INCORRECT_INDEX)) => {
            // Event numbers are 1-based with this code only.
            rejected(invalid.and_then(|number| number.checked_sub(1)), INCORRECT_INDEX.to_string(), text)
        }
        (StatusCode::BAD_REQUEST, Some(code)) if EVENT_ERRORS.contains(&code) => {
            rejected(invalid, code.to_string(), text)
        }
        (StatusCode::PAYLOAD_TOO_LARGE, _) => rejected(None, "413".into(), message),
        _ => Outcome::Failed(message, retry_after),
    }
}

/// Returns the problem of a receiver that rejects single events in a row.
pub(super) fn all_rejected(rejection: &Rejection, consecutive: usize) -> String {
    let hint = match rejection.code.as_str() {
        "7" => "allow their index for the token",
        _ => "check the settings of the receiver and the formatter",
    };
    let Rejection { reason, code, .. } = rejection;
    format!("{reason} (code {code}). The last {consecutive} events were rejected as well: {hint}")
}

/// Interprets a response to a request without events, which a receiver rejects for just that if it accepts the token.
pub(super) fn probed(origin: &str, status: StatusCode, body: &[u8]) -> Result<(), SinkError> {
    let HecResponse { text, code, .. } = serde_json::from_slice(body).unwrap_or_default();
    if matches!(code, Some(SUCCESS | NO_DATA)) {
        return Ok(());
    }
    let problem = match code {
        Some(code) => format!("{origin}: {status}: {text} (code {code})"),
        None => format!("{origin}: {status}: not a HEC response"),
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SinkError::Denied(problem)),
        _ => Err(SinkError::Unavailable(problem)),
    }
}
