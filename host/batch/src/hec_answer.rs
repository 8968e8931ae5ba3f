//! Answers of Splunk's HTTP Event Collector, and of compatible receivers: which events are accepted, rejected for good,
//! or to be sent again.
//!
//! | code | status | meaning | answer |
//! |---|---|---|---|
//! | 0 | 200 | success | accepted |
//! | 24, 25 | 200 | the queue, or the acknowledgements, approach capacity | accepted, with a warning |
//! | 5, 6, 12, 13, 15 | 400 | no data; wrong format; no event; blank event; wrong indexed fields | an event is rejected |
//! | 7 | 400 | the token does not allow the index | an event is rejected |
//! | 1-4, 10, 11, 14, 16, 21, 22 | 400-403 | wrong token, channel or acknowledgement setting | failed |
//! | 8, 9, 18-20, 23, 26, 27 | 429-503 | the receiver is busy, ends, or has an error | failed |
//! | 17 | 200 | health of the collector, no answer to events | failed |
//! | others | | | by the status: 2xx accepted, with a warning; 400 rejected; otherwise failed |
//! | 100 and more | | codes of others, like HTTP's | as others, but only 2xx is accepted |
//!
//! Compatible receivers answer 2xx with `OK`, another word of success, or nothing. Any other text is a proxy's.

use serde_json::{Map, Value};

/// The answer to a request with events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All events are accepted.
    Accepted {
        /// The id of the acknowledgement to query.
        acknowledgement: Option<u64>,
        /// A warning of the receiver.
        warning: Option<String>,
    },
    /// An event is rejected for good.
    Rejected {
        /// Index of the event in the request, if the receiver gives it.
        event: Option<usize>,
        /// The code.
        code: u64,
        /// The receiver's text.
        reason: String,
    },
    /// The events are not accepted. A retry may succeed.
    Failed(String),
}

/// All events are accepted.
const SUCCESS: u64 = 0;

/// The events are accepted, and the receiver is near its limits.
const WARNINGS: [u64; 2] = [24, 25];

/// The request has no events.
pub const NO_DATA: u64 = 5;

/// The token does not allow the event's index.
pub const INCORRECT_INDEX: u64 = 7;

/// The token has indexer acknowledgement, and the request has no channel.
const NO_CHANNEL: u64 = 10;

/// Permanent errors in an event.
const EVENT_ERRORS: [u64; 6] = [NO_DATA, 6, INCORRECT_INDEX, 12, 13, 15];

/// The largest code of Splunk 10.
const LAST_CODE: u64 = 27;

/// Answers of compatible receivers that have accepted the events, in lowercase.
const OK_WORDS: [&str; 3] = ["ok", "success", "accepted"];

/// Characters of the receiver's text that are kept.
const MAX_REASON_CHARS: usize = 500;

/// Interprets the answer to a request with events.
pub fn interpret(status: u16, body: &[u8]) -> Answer {
    let body = trim(body);
    let is_success = (200..300).contains(&status);
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return match is_success && is_plain_success(body) {
            true => Answer::Accepted { acknowledgement: None, warning: None },
            false => Answer::Failed(foreign(status, body)),
        };
    };
    let text = text_of(&members);
    let Some(code) = members.get("code").and_then(whole_number) else {
        let acknowledgement = members.get("ackId").and_then(whole_number);
        return match is_success && is_success_text(&members) {
            true => Answer::Accepted { acknowledgement, warning: None },
            false => Answer::Failed(foreign(status, body)),
        };
    };
    let described = describe(&text, code);
    match code {
        SUCCESS if is_success => accepted(&members, None),
        code if is_success && WARNINGS.contains(&code) => accepted(&members, Some(described)),
        code if is_success && is_unknown_success(code) => accepted(&members, Some(described)),
        code if status == 400 && (EVENT_ERRORS.contains(&code) || code > LAST_CODE) => {
            Answer::Rejected { event: rejected_event(&members, code), code, reason: text }
        }
        _ => Answer::Failed(described),
    }
}

/// Returns the code of an answer, if it has one.
pub fn code(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Map<String, Value>>(trim(body)).ok()?.get("code").and_then(whole_number)
}

fn accepted(members: &Map<String, Value>, warning: Option<String>) -> Answer {
    Answer::Accepted { acknowledgement: members.get("ackId").and_then(whole_number), warning }
}

fn text_of(members: &Map<String, Value>) -> String {
    let text = members.get("text").and_then(Value::as_str).unwrap_or_default();
    text.chars().take(MAX_REASON_CHARS).collect()
}

fn describe(text: &str, code: u64) -> String {
    let hint = match code {
        NO_CHANNEL => {
            ": the token has indexer acknowledgement. Set acknowledge = true, or turn it off in Splunk"
        }
        _ => "",
    };
    let space = if text.is_empty() { "" } else { " " };
    format!("{text}{space}(code {code}){hint}")
}

/// The index of the rejected event. Splunk sends -1 if it does not know the event.
fn rejected_event(members: &Map<String, Value>, code: u64) -> Option<usize> {
    let number = members.get("invalid-event-number").and_then(whole_number)?;
    // Event numbers begin at 1 with this code only.
    let number = if code == INCORRECT_INDEX { number.checked_sub(1)? } else { number };
    number.try_into().ok()
}

/// Returns a number, also if it is text: some receivers send `"code": "0"`.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn trim(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii()
}

/// True if an answer that is no JSON object has accepted the events.
fn is_plain_success(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let text = text.trim_matches('"').trim_end_matches(['.', '!']);
    text.is_empty() || is_ok_word(text)
}

/// True if the text of an answer without a code is a word of success.
fn is_success_text(members: &Map<String, Value>) -> bool {
    members.get("text").and_then(Value::as_str).is_some_and(is_ok_word)
}

/// True if a code of no Splunk that is known accepts the events by the status of the answer. Codes like HTTP's are a
/// receiver's or a proxy's own, and only those of success accept.
fn is_unknown_success(code: u64) -> bool {
    match code {
        100.. => (200..300).contains(&code),
        _ => code > LAST_CODE,
    }
}

fn is_ok_word(text: &str) -> bool {
    OK_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Describes an answer that is not one of HEC, with its beginning.
fn foreign(status: u16, body: &[u8]) -> String {
    let excerpt: String = String::from_utf8_lossy(body).chars().take(200).collect();
    match status {
        200..300 => format!("{excerpt}: not a HEC response. A proxy may have answered: check the URL"),
        _ => excerpt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(status: u16, body: &str) -> bool {
        matches!(interpret(status, body.as_bytes()), Answer::Accepted { warning: None, .. })
    }

    fn warns(status: u16, body: &str) -> bool {
        matches!(interpret(status, body.as_bytes()), Answer::Accepted { warning: Some(_), .. })
    }

    fn fails(status: u16, body: &str) -> bool {
        matches!(interpret(status, body.as_bytes()), Answer::Failed(_))
    }

    #[test]
    fn success_is_accepted() {
        assert!(accepts(200, r#"{"text":"Success","code":0}"#));
        assert!(accepts(201, "\u{feff}{\"code\":\"0\"}\r\n"));
        let acknowledged = interpret(200, br#"{"text":"Success","code":0,"ackId":"7"}"#);
        assert_eq!(acknowledged, Answer::Accepted { acknowledgement: Some(7), warning: None });
    }

    #[test]
    fn approaching_capacity_and_unknown_codes_are_accepted_with_a_warning() {
        assert!(warns(200, r#"{"text":"HEC is approaching capacity: queue","code":24,"ackId":3}"#));
        assert!(warns(200, r#"{"text":"HEC is approaching capacity: acks","code":25}"#));
        assert!(warns(200, r#"{"text":"of a later version","code":28}"#));
        assert!(warns(200, r#"{"text":"Success","code":200}"#));
    }

    #[test]
    fn compatible_receivers_answer_ok_or_nothing() {
        for body in ["OK", "\"OK\"", "ok\n", "Success", "", " ", r#"{"text":"Success"}"#] {
            for status in [200, 201, 202, 204] {
                assert!(accepts(status, body), "{status} {body}");
            }
            assert!(fails(500, body) && fails(403, body) && fails(307, body), "{body}");
        }
    }

    #[test]
    fn answers_of_proxies_are_no_acceptance() {
        for body in [
            "<html><body>Sign in</body></html>",
            "<!DOCTYPE html>OK",
            "not ok",
            "null",
            "[]",
            "0",
            r#"{"error":"no route"}"#,
            "{}",
            r#"{"status":"ok"}"#,
            r#"{"text":"Not found","code":404}"#,
            r#"{"text":"Sign in"}"#,
            r#"{"path":"/x"}"#,
            "\u{1f}\u{8b}",
        ] {
            assert!(fails(200, body), "{body}");
        }
    }

    #[test]
    fn failures_are_failures_with_any_status() {
        let splunk = (1..=4).chain(8..=11).chain([14]).chain(16..=23).chain([26, 27]);
        for code in splunk {
            for status in [200, 400, 401, 403, 429, 500, 503] {
                assert!(fails(status, &format!(r#"{{"text":"no","code":{code}}}"#)), "{status} {code}");
            }
        }
        assert!(fails(503, r#"{"text":"x","code":24}"#) && fails(503, r#"{"code":0}"#));
        assert!(fails(503, r#"{"code":99}"#) && fails(429, r#"{"code":99}"#) && fails(401, r#"{"code":99}"#));
    }

    #[test]
    fn rejected_events_have_their_index() {
        let index = |body: &str| match interpret(400, body.as_bytes()) {
            Answer::Rejected { event, code, .. } => (event, code),
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(
            index(r#"{"text":"Invalid data format","code":6,"invalid-event-number":2}"#),
            (Some(2), 6)
        );
        assert_eq!(index(r#"{"text":"Invalid data format","code":6,"invalid-event-number":-1}"#), (None, 6));
        assert_eq!(index(r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#), (Some(0), 7));
        assert_eq!(index(r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#), (None, 7));
        assert_eq!(index(r#"{"text":"of a later version","code":99}"#), (None, 99));
        assert!(fails(200, r#"{"text":"Invalid data format","code":6}"#));
    }
}
