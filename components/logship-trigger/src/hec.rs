//! Sends events to Splunk's HTTP Event Collector.

use bytes::Bytes;
use logship_batch::batch::LogBatch;
use logship_batch::hec_answer::{self, Answer};
use serde_json::json;
use spin_sdk::http::{self, FullBody};

use crate::deliver::{Delivered, STAGES, send};
use crate::problem::Problem;
use crate::rule::{Hec, Rule, variable};
use crate::stages::formatter::{self, Transport};

/// Sends the logs as events, in order. Splunk events have no identity: if a call fails halfway, its retry sends all
/// events again.
pub(crate) async fn send_all(
    rule: &Rule,
    receiver: &Hec,
    batches: &[LogBatch],
) -> Result<Delivered, Problem> {
    let token = variable("hec_token").await?;
    let (stages, session) = open(rule, receiver)?;
    let (mut events, mut requests, mut bytes, mut logs_before) = (0, 0, 0, 0);
    let mut last_warning = None;
    for batch in batches {
        let messages = session.push(batch).map_err(|error| problem(with_log_offset(error, logs_before)))?;
        logs_before += batch.len() as u32;
        for range in request_ranges(&messages.ends, receiver.batch_bytes) {
            let warning = post(receiver, &token, &messages.bytes[range]).await?;
            last_warning = warning.or(last_warning);
            requests += 1;
        }
        events += messages.ends.len();
        bytes += messages.bytes.len();
    }
    let mut headers = vec![
        ("x-logship-rows", events.to_string()),
        ("x-logship-stored-bytes", bytes.to_string()),
        ("x-logship-requests", requests.to_string()),
        (STAGES, stages),
        ("x-logship-delivered", "sent".to_owned()),
    ];
    headers.extend(last_warning.map(|warning| ("x-logship-warning", header_text(&warning))));
    Ok(Delivered { headers, object: None })
}

/// Returns text without the characters that a header can't have.
fn header_text(text: &str) -> String {
    text.chars().map(|char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' }).collect()
}

/// Checks that the function can make the events of a rule. Returns the name and version of the formatter.
pub(crate) fn check(rule: &Rule, receiver: &Hec) -> Result<String, Problem> {
    Ok(open(rule, receiver)?.0)
}

/// Opens the formatter with the rule's settings. Returns its name and version, and the session.
fn open(rule: &Rule, receiver: &Hec) -> Result<(String, formatter::Session), Problem> {
    let stage = formatter::describe();
    if stage.transport != Transport::Hec {
        return Err(Problem::settings(format!(
            "rule {:?} delivers to Splunk, but this function's formatter {} makes syslog messages: \
             set the dependency logship:siem/formatter in spin.toml to siem-hec",
            rule.name, stage.name
        )));
    }
    let config = if receiver.format.is_empty() { String::new() } else { json!(receiver.format).to_string() };
    let session = formatter::Session::open(&config).map_err(problem)?;
    Ok((format!("{}@{}", stage.name, stage.version), session))
}

/// Returns the byte range of each request: as many complete events as fit into `max_bytes`, but at least one.
fn request_ranges(ends: &[u32], max_bytes: usize) -> Vec<std::ops::Range<usize>> {
    let (mut requests, mut start, mut end) = (vec![], 0, 0);
    for &next in ends {
        let next = next as usize;
        if next - start > max_bytes && end > start {
            requests.push(start..end);
            start = end;
        }
        end = next;
    }
    if end > start {
        requests.push(start..end);
    }
    requests
}

/// Sends events. Returns the warning of a receiver that has accepted them.
async fn post(receiver: &Hec, token: &str, events: &[u8]) -> Result<Option<String>, Problem> {
    let url = format!("{}/services/collector/event", receiver.url.trim_end_matches('/'));
    let request = http::Request::post(url)
        .header("authorization", format!("Splunk {token}"))
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::copy_from_slice(events)))
        .map_err(|error| Problem::settings(format!("deliver: url {:?}: {error}", receiver.url)))?;
    let response = send(request).await?;
    match hec_answer::interpret(response.status, &response.body) {
        Answer::Accepted { warning, .. } => Ok(warning),
        Answer::Rejected { .. } => Err(response.problem("Splunk")),
        Answer::Failed(problem) if response.is_success() => {
            Err(Problem::new(502, "destination-failed", format!("{} responded {problem}", receiver.url)))
        }
        // The token, its channel or its settings: the same call succeeds after they are corrected.
        Answer::Failed(problem) if response.status == 400 && hec_answer::code(&response.body).is_some() => {
            Err(Problem::new(502, "destination-refused", format!("Splunk responded 400: {problem}")))
        }
        Answer::Failed(_) => Err(response.problem("Splunk")),
    }
}

fn with_log_offset(error: formatter::Error, logs_before: u32) -> formatter::Error {
    match error {
        formatter::Error::Rejected(formatter::Rejection { log, reason }) => {
            formatter::Error::Rejected(formatter::Rejection { log: logs_before + log, reason })
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
            Problem::new(500, "defect", format!("bug in the function: {problem}"))
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
    fn requests_have_complete_events() {
        assert_eq!(request_ranges(&[], 10), []);
        assert_eq!(request_ranges(&[4, 8, 12], 10), [0..8, 8..12]);
        assert_eq!(request_ranges(&[40, 44, 100], 10), [0..40, 40..44, 44..100]);
    }
}
