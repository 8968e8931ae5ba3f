//! Responses and errors of HEC: which events are accepted, rejected for good, or sent again.

use std::time::Duration;

use logship_batch::hec_answer::{self, Answer};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};

use crate::error::SinkError;

/// The outcome of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All events are accepted.
    Accepted {
        /// The id of the acknowledgement to query.
        acknowledgement: Option<u64>,
        /// A warning of the receiver.
        warning: Option<String>,
    },
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

/// Code: indexer acknowledgement is disabled for the token.
pub(super) const NO_ACKNOWLEDGEMENTS: u64 = 14;

/// Codes: the token is disabled, missing or invalid.
const TOKEN_ERRORS: [u64; 6] = [1, 2, 3, 4, 21, 22];

/// The delay of a response's `Retry-After` header.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Interprets a response to events. `location` is the target of a redirect.
pub(super) fn outcome(
    status: StatusCode,
    body: &[u8],
    location: Option<&str>,
    retry_after: Option<Duration>,
) -> Outcome {
    match hec_answer::interpret(status.as_u16(), body) {
        Answer::Accepted { acknowledgement, warning } => Outcome::Accepted { acknowledgement, warning },
        Answer::Rejected { event, code, reason } => {
            Outcome::Rejected(Rejection { number: event, code: code.to_string(), reason })
        }
        Answer::Failed(problem) => match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let reason = format!("{status}: {problem}");
                Outcome::Rejected(Rejection { number: None, code: "413".into(), reason })
            }
            _ => Outcome::Failed(failure(status, &problem, location), retry_after),
        },
    }
}

/// Describes a failure. Redirects are not followed, because the target would get the token.
fn failure(status: StatusCode, problem: &str, location: Option<&str>) -> String {
    match location {
        Some(location) if status.is_redirection() => format!(
            "{status}: the receiver redirects to {location}, and the token is not sent there: set `urls` to the final URL"
        ),
        _ => format!("{status}: {problem}"),
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
pub(super) fn probed(
    origin: &str,
    status: StatusCode,
    body: &[u8],
    location: Option<&str>,
) -> Result<(), SinkError> {
    let problem = match hec_answer::interpret(status.as_u16(), body) {
        Answer::Accepted { .. } | Answer::Rejected { .. } => return Ok(()),
        Answer::Failed(problem) => format!("{origin}: {}", failure(status, &problem, location)),
    };
    let is_denied = hec_answer::code(body).is_some_and(|code| TOKEN_ERRORS.contains(&code))
        || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    Err(if is_denied { SinkError::Denied(problem) } else { SinkError::Unavailable(problem) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_names_its_target() {
        let moved = outcome(StatusCode::TEMPORARY_REDIRECT, b"", Some("https://b.example.org/x"), None);
        assert!(matches!(moved, Outcome::Failed(problem, _) if problem.contains("https://b.example.org/x")));
    }

    #[test]
    fn large_request_is_split() {
        let outcome = outcome(StatusCode::PAYLOAD_TOO_LARGE, b"<html>413</html>", None, None);
        assert!(matches!(outcome, Outcome::Rejected(Rejection { number: None, .. })));
    }

    #[test]
    fn probe_needs_an_accepted_token_only() {
        let probe = |status: u16, body: &str| {
            probed("o", StatusCode::from_u16(status).unwrap(), body.as_bytes(), None)
        };
        assert!(probe(400, r#"{"text":"No data","code":5}"#).is_ok());
        assert!(probe(200, r#"{"text":"Success","code":0}"#).is_ok() && probe(204, "").is_ok());
        for (status, code) in [(403, 4), (401, 2), (400, 21), (400, 22)] {
            let denied = probe(status, &format!(r#"{{"text":"Invalid token","code":{code}}}"#));
            assert!(matches!(denied, Err(SinkError::Denied(_))), "{status} {code}");
        }
        assert!(matches!(probe(200, "<html>"), Err(SinkError::Unavailable(_))));
        assert!(matches!(probe(503, r#"{"code":9}"#), Err(SinkError::Unavailable(_))));
    }
}
