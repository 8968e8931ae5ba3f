//! Responses of HEC.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;

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
pub(super) struct HecResponse {
    #[serde(default)]
    pub(super) text: String,
    pub(super) code: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    pub(super) invalid: Option<usize>,
    #[serde(rename = "ackId")]
    pub(super) acknowledgement: Option<u64>,
}

/// Code: all events of the request are accepted.
pub(super) const SUCCESS: u64 = 0;

/// Codes of permanent errors in an event: no data, invalid data format, event field is required, event field cannot be
/// blank, error in handling indexed fields.
pub(super) const EVENT_ERRORS: [u64; 5] = [5, 6, 12, 13, 15];

/// Code: the token does not allow the event's index.
pub(super) const INCORRECT_INDEX: u64 = 7;

/// Code: indexer acknowledgement is disabled for the token.
pub(super) const NO_ACKNOWLEDGEMENTS: u64 = 14;

/// Largest response body, in bytes. HEC's have a few hundred.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Characters of the receiver's text that are kept with each event.
pub(super) const MAX_REASON_CHARS: usize = 500;

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

/// Reads a response body up to [`MAX_RESPONSE_BYTES`].
pub(super) async fn read_body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(part) = response.chunk().await.map_err(error_chain)? {
        body.extend_from_slice(&part);
        if body.len() > MAX_RESPONSE_BYTES {
            return Err(format!("a response of more than {MAX_RESPONSE_BYTES} bytes, which is not from HEC"));
        }
    }
    Ok(body)
}
