//! What HEC answers, and what that means for the events of a request.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;

/// What came of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All events are accepted; with the number of the acknowledgement to ask for.
    Accepted(Option<u64>),
    /// An event is refused for good.
    Refused(Refusal),
    /// Anything else: it may be accepted another time. With how long to wait until then, if it says so.
    Failed(String, Option<Duration>),
}

/// An event of a request is refused for good.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Its number in the request, if it is said.
    pub(super) number: Option<usize>,
    pub(super) code: String,
    pub(super) reason: String,
}

/// An answer of HEC.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) text: String,
    pub(super) code: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    pub(super) invalid: Option<usize>,
    #[serde(rename = "ackId")]
    pub(super) acknowledgement: Option<u64>,
}

/// All events of a request are accepted.
pub(super) const SUCCESS: u64 = 0;

/// Codes that are about an event, and will be the same another time: no data, invalid data format, event field is
/// required, event field cannot be blank, error in handling indexed fields.
pub(super) const REFUSED: [u64; 5] = [5, 6, 12, 13, 15];

/// The index of an event is none that the token opens.
pub(super) const INCORRECT_INDEX: u64 = 7;

/// The token has no acknowledgements.
pub(super) const NO_ACKNOWLEDGEMENTS: u64 = 14;

/// Bytes of an answer that are read: those of HEC have some hundred.
pub(super) const LARGEST_ANSWER: usize = 64 << 10;

/// Characters of what a receiver says that are kept with each event.
pub(super) const LONGEST_REASON: usize = 500;

/// How long an answer asks to be left alone.
pub(super) fn rest(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What an error says, and what is behind it.
pub(super) fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// An answer. One without end comes from something else.
pub(super) async fn limited(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(part) = response.chunk().await.map_err(words)? {
        body.extend_from_slice(&part);
        if body.len() > LARGEST_ANSWER {
            return Err(format!("an answer of more than {LARGEST_ANSWER} bytes, which is none of HEC"));
        }
    }
    Ok(body)
}
