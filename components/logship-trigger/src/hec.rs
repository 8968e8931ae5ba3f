//! Events to Splunk's HTTP Event Collector.

use bytes::Bytes;
use logship_core::batch::LogBatch;
use serde_json::{Value, json};
use spin_sdk::http::{self, FullBody};

use crate::deliver::{Delivered, STAGES, send};
use crate::problem::Problem;
use crate::rule::{Hec, Rule, variable};
use crate::stages::formatter::{self, Transport};

/// Sends the logs as events, in order. Splunk has no identities of events: what a call sent before it failed is sent
/// again by the one that repeats it.
pub(crate) async fn send_all(
    rule: &Rule,
    receiver: &Hec,
    batches: &[LogBatch],
) -> Result<Delivered, Problem> {
    let token = variable("hec_token").await?;
    let (stages, session) = open(rule, receiver)?;
    let (mut events, mut requests, mut bytes, mut before) = (0, 0, 0, 0);
    for batch in batches {
        let messages = session.push(batch).map_err(|error| problem(at(error, before)))?;
        before += batch.len() as u32;
        for range in requests_of(&messages.ends, receiver.batch_bytes) {
            post(receiver, &token, &messages.bytes[range]).await?;
            requests += 1;
        }
        events += messages.ends.len();
        bytes += messages.bytes.len();
    }
    let facts = vec![
        ("x-logship-rows", events.to_string()),
        ("x-logship-stored-bytes", bytes.to_string()),
        ("x-logship-requests", requests.to_string()),
        (STAGES, stages),
        ("x-logship-delivered", "sent".to_owned()),
    ];
    Ok(Delivered { facts, object: None })
}

/// Whether the function can make the events of a rule: returns the stage that would.
pub(crate) fn check(rule: &Rule, receiver: &Hec) -> Result<String, Problem> {
    Ok(open(rule, receiver)?.0)
}

/// The formatter, by its name and version, with its settings.
fn open(rule: &Rule, receiver: &Hec) -> Result<(String, formatter::Session), Problem> {
    let stage = formatter::describe();
    if stage.transport != Transport::Hec {
        return Err(Problem::settings(format!(
            "rule {:?} delivers to Splunk, and this function's formatter is {}, which makes messages for syslog: \
             put siem-hec into the dependency logship:siem/formatter in spin.toml",
            rule.name, stage.name
        )));
    }
    let config = if receiver.format.is_empty() { String::new() } else { json!(receiver.format).to_string() };
    let session = formatter::Session::open(&config).map_err(problem)?;
    Ok((format!("{}@{}", stage.name, stage.version), session))
}

/// The bytes of each request: whole events, as many as have room, one at least.
fn requests_of(ends: &[u32], most: usize) -> Vec<std::ops::Range<usize>> {
    let (mut requests, mut begin, mut end) = (vec![], 0, 0);
    for &next in ends {
        let next = next as usize;
        if next - begin > most && end > begin {
            requests.push(begin..end);
            begin = end;
        }
        end = next;
    }
    if end > begin {
        requests.push(begin..end);
    }
    requests
}

async fn post(receiver: &Hec, token: &str, events: &[u8]) -> Result<(), Problem> {
    let url = format!("{}/services/collector/event", receiver.url.trim_end_matches('/'));
    let request = http::Request::post(url)
        .header("authorization", format!("Splunk {token}"))
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::copy_from_slice(events)))
        .map_err(|error| Problem::settings(format!("deliver: url {:?}: {error}", receiver.url)))?;
    let answer = send(request).await?;
    // A proxy may answer 200 as well: Splunk says code 0.
    let code = serde_json::from_slice::<Value>(&answer.body).ok().and_then(|body| body.get("code")?.as_u64());
    match (answer.status, code) {
        (200, Some(0)) => Ok(()),
        (200, _) => Err(Problem::new(
            502,
            "destination-failed",
            format!("{} answered 200, but not as Splunk does", receiver.url),
        )),
        _ => Err(answer.problem("Splunk")),
    }
}

fn at(error: formatter::Error, before: u32) -> formatter::Error {
    match error {
        formatter::Error::Rejected(formatter::Rejection { log, reason }) => {
            formatter::Error::Rejected(formatter::Rejection { log: before + log, reason })
        }
        error => error,
    }
}

fn problem(error: formatter::Error) -> Problem {
    match error {
        formatter::Error::InvalidConfig(problem) => {
            Problem::settings(format!("deliver: format: {}: {}", problem.path, problem.reason))
        }
        formatter::Error::InvalidBatch(problem) => {
            Problem::new(500, "defect", format!("a defect of the function: {problem}"))
        }
        formatter::Error::Rejected(rejection) => {
            Problem::rejected(format!("log {}: {}", rejection.log, rejection.reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_events() {
        assert_eq!(requests_of(&[], 10), []);
        assert_eq!(requests_of(&[4, 8, 12], 10), [0..8, 8..12]);
        assert_eq!(requests_of(&[40, 44, 100], 10), [0..40, 40..44, 44..100]);
    }
}
