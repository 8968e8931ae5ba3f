//! Splunk's HTTP Event Collector.
//!
//! - This file: `Hec`, which sends events until each is accepted or rejected. `settings`: its settings. `endpoint`: a
//!   URL and its retry state. `response`: responses.

mod endpoint;
mod response;

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use endpoint::Endpoint;
use response::{
    EVENT_ERRORS, HecResponse, INCORRECT_INDEX, MAX_REASON_CHARS, NO_ACKNOWLEDGEMENTS, Outcome, Rejection,
    SUCCESS, error_chain, read_body, retry_after,
};

use crate::events::Events;
use crate::receiver::{Health, ReceiverError, RejectedMessage};
use logship_config::hec::HecConfig;

/// Connect timeout.
const CONNECT: Duration = Duration::from_secs(10);

/// Interval between acknowledgement queries. It doubles from the first to the last value.
const FIRST_POLL: Duration = Duration::from_millis(100);
const LAST_POLL: Duration = Duration::from_secs(2);

/// A HEC receiver.
pub(crate) struct Hec {
    settings: HecConfig,
    http: reqwest::Client,
    authorization: HeaderValue,
    endpoints: Vec<Endpoint>,
    /// Counter for round robin over the endpoints.
    round_robin: AtomicUsize,
    /// Permits for concurrent requests.
    requests: Semaphore,
    /// Idle channels for acknowledgements, of this process only. A request owns a channel until it is acknowledged:
    /// Splunk restarts its acknowledgement ids after a crash, so an id in a shared channel could be another request's.
    channels: Mutex<Vec<String>>,
    /// Consecutive rejections of single events.
    rejected: AtomicUsize,
}

impl fmt::Debug for Hec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(formatter)
    }
}

/// Consecutive rejections after which the configuration is taken to be wrong, not the events.
const MAX_CONSECUTIVE_REJECTIONS: usize = 200;

impl Hec {
    pub(crate) fn new(settings: &HecConfig) -> Result<Self, ReceiverError> {
        if settings.urls.is_empty() {
            return Err(ReceiverError::setting("urls", "is missing: https://HOST:8088, one or several"));
        }
        if settings.token.is_empty() {
            return Err(ReceiverError::setting("token", "is missing"));
        }
        if settings.batch_bytes == 0 || settings.requests == 0 || settings.timeout_seconds == 0 {
            let problem = "batch-bytes, requests and timeout-seconds must be at least 1";
            return Err(ReceiverError::setting("batch-bytes", problem));
        }
        let mut authorization = HeaderValue::from_str(&format!("Splunk {}", settings.token))
            .map_err(|_| ReceiverError::setting("token", "has characters that a token cannot have"))?;
        authorization.set_sensitive(true);
        let endpoints = settings.urls.iter().map(|url| Endpoint::new(url)).collect::<Result<_, _>>()?;
        Ok(Self {
            http: client(settings)?,
            authorization,
            endpoints,
            round_robin: AtomicUsize::new(0),
            requests: Semaphore::new(settings.requests),
            channels: Mutex::default(),
            rejected: AtomicUsize::new(0),
            settings: settings.clone(),
        })
    }

    /// Sends all messages in concurrent requests.
    pub(crate) async fn deliver(&self, chunks: &[Events<'_>], health: &Health) -> Vec<RejectedMessage> {
        let requests = chunks.iter().enumerate().flat_map(|(number, chunk)| {
            let ranges = self.split(chunk).into_iter();
            ranges.map(move |range| self.send(number, chunk, range, health))
        });
        futures_util::future::join_all(requests).await.into_iter().flatten().collect()
    }

    /// Splits messages into requests.
    fn split(&self, events: &Events<'_>) -> Vec<Range<usize>> {
        let ends = events.ends;
        let (mut requests, mut first, mut begin) = (vec![], 0, 0);
        for message in 0..ends.len() {
            if ends[message] as usize - begin > self.settings.batch_bytes && message > first {
                requests.push(first..message);
                (first, begin) = (message, ends[message - 1] as usize);
            }
        }
        if first < ends.len() {
            requests.push(first..ends.len());
        }
        requests
    }

    /// Sends messages until each is accepted or permanently rejected.
    async fn send(
        &self,
        chunk: usize,
        events: &Events<'_>,
        messages: Range<usize>,
        health: &Health,
    ) -> Vec<RejectedMessage> {
        let (mut pending, mut rejected) = (vec![messages], vec![]);
        // After a rejection, more are likely: the request size shrinks, and doubles with each success.
        let mut max_messages = usize::MAX;
        while let Some(mut messages) = pending.pop() {
            if messages.is_empty() {
                continue;
            }
            if messages.len() > max_messages {
                pending.push(messages.start + max_messages..messages.end);
                messages.end = messages.start + max_messages;
            }
            let events = events.slice(messages.clone());
            let Err(rejection) = self.send_until_accepted(events, messages.len() == 1, health).await else {
                max_messages = max_messages.saturating_mul(2);
                continue;
            };
            if messages.len() == 1 {
                let Rejection { code, reason, .. } = rejection;
                rejected.push(RejectedMessage { chunk, message: messages.start, code, reason });
                max_messages = 1;
                continue;
            }
            // HEC does not tell if the events before the rejected one were accepted, so they are sent again. Only an
            // event that is rejected in a request of its own is surely the wrong one.
            match rejection.number.filter(|number| *number < messages.len()) {
                Some(number) => {
                    let rejected_index = messages.start + number;
                    pending.extend([
                        rejected_index + 1..messages.end,
                        rejected_index..rejected_index + 1,
                        messages.start..rejected_index,
                    ]);
                }
                None => {
                    let middle = messages.start + messages.len() / 2;
                    pending.extend([middle..messages.end, messages.start..middle]);
                }
            }
        }
        rejected
    }

    /// Sends events until they are accepted or permanently rejected. `is_single` tells if there is only one event.
    async fn send_until_accepted(
        &self,
        events: &[u8],
        is_single: bool,
        health: &Health,
    ) -> Result<(), Rejection> {
        let body = self.body(events).await;
        loop {
            let channel =
                self.settings.acknowledge.then(|| self.channels().pop().unwrap_or_else(new_channel));
            let (endpoint, outcome) = {
                let _permit = self.requests.acquire().await;
                // Chosen after the permit, since an endpoint may back off meanwhile.
                let endpoint = self.available_endpoint().await;
                (endpoint, self.post_if_acknowledged(endpoint, body.clone(), channel.as_deref()).await)
            };
            let outcome = match (outcome, &channel) {
                (Outcome::Accepted(Some(number)), Some(channel)) => {
                    self.wait_for_ack(endpoint, number, channel).await
                }
                (other, _) => other,
            };
            match outcome {
                Outcome::Accepted(_) => {
                    self.rejected.store(0, Ordering::Relaxed);
                    endpoint.record_success();
                    health.record_success();
                    self.channels().extend(channel);
                    return Ok(());
                }
                Outcome::Rejected(rejection) => {
                    if is_single
                        && self.rejected.fetch_add(1, Ordering::Relaxed) >= MAX_CONSECUTIVE_REJECTIONS
                    {
                        let hint = match rejection.code.as_str() {
                            "7" => "allow their index for the token",
                            _ => "check the settings of the receiver and the formatter",
                        };
                        let problem = format!(
                            "{} (code {}). The last {MAX_CONSECUTIVE_REJECTIONS} events were rejected as well: {hint}",
                            rejection.reason, rejection.code
                        );
                        endpoint.report_failure(health, &problem, None);
                        continue;
                    }
                    endpoint.record_success();
                    return Err(rejection);
                }
                Outcome::Failed(problem, retry_after) => {
                    endpoint.report_failure(health, &problem, retry_after)
                }
            }
        }
    }

    /// Posts events. Checks first that the endpoint acknowledges events, if that is required: it would get them again
    /// and again otherwise.
    async fn post_if_acknowledged(&self, endpoint: &Endpoint, body: Bytes, channel: Option<&str>) -> Outcome {
        if let Some(channel) = channel
            && !endpoint.has_acks.load(Ordering::Relaxed)
        {
            match self.query_acks(endpoint, &[], channel).await {
                Ok((_, response)) if response["code"] == NO_ACKNOWLEDGEMENTS => {
                    let problem = "no acknowledgements: indexer acknowledgement is off for the token; nothing is sent until it is on";
                    return Outcome::Failed(problem.into(), None);
                }
                Ok((status, response)) if !status.is_success() => {
                    return Outcome::Failed(format!("{status}: {response}"), None);
                }
                Ok(_) => endpoint.has_acks.store(true, Ordering::Relaxed),
                Err(problem) => return Outcome::Failed(problem, None),
            }
        }
        self.post(endpoint, body, channel).await
    }

    fn channels(&self) -> MutexGuard<'_, Vec<String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn body(&self, events: &[u8]) -> Bytes {
        let events = events.to_vec();
        if !self.settings.gzip {
            return events.into();
        }
        let compress = move || {
            let mut gzip = GzEncoder::new(Vec::with_capacity(events.len() / 4), Compression::fast());
            // Writing to memory can't fail.
            gzip.write_all(&events).and_then(|()| gzip.finish()).unwrap_or_default()
        };
        tokio::task::spawn_blocking(compress).await.unwrap_or_default().into()
    }

    /// Waits for an endpoint that is not backing off. Chooses in round-robin order.
    async fn available_endpoint(&self) -> &Endpoint {
        loop {
            let (first, now) = (self.round_robin.fetch_add(1, Ordering::Relaxed), Instant::now());
            let candidate = |number: usize| &self.endpoints[(first + number) % self.endpoints.len()];
            let mut all = (0..self.endpoints.len()).map(candidate);
            if let Some(endpoint) =
                all.find(|endpoint| endpoint.next_attempt().is_none_or(|until| until <= now))
            {
                return endpoint;
            }
            let until = self.endpoints.iter().filter_map(Endpoint::next_attempt).min().unwrap_or(now);
            tokio::time::sleep_until(until.into()).await;
        }
    }

    async fn post(&self, endpoint: &Endpoint, body: Bytes, channel: Option<&str>) -> Outcome {
        let mut request = self.http.post(endpoint.events.clone());
        request = request.header(AUTHORIZATION, self.authorization.clone());
        request = request.header(CONTENT_TYPE, "application/json");
        if self.settings.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(channel) = channel {
            request = request.header(CHANNEL, channel);
        }
        match request.body(body).send().await {
            Ok(response) => self.read(endpoint, response).await,
            Err(error) => Outcome::Failed(error_chain(error), None),
        }
    }

    /// Interprets a response.
    async fn read(&self, endpoint: &Endpoint, response: Response) -> Outcome {
        let (status, retry_after) = (response.status(), retry_after(&response));
        let body = match read_body(response).await {
            Ok(body) => body,
            Err(problem) => return Outcome::Failed(format!("{status}, then {problem}"), retry_after),
        };
        let HecResponse { text, code, invalid, acknowledgement } =
            serde_json::from_slice(&body).unwrap_or_default();
        let text: String = text.chars().take(MAX_REASON_CHARS).collect();
        let message = match code {
            Some(code) => format!("{status}: {text} (code {code})"),
            None => format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)])),
        };
        let rejected = |number, code: String, reason| Outcome::Rejected(Rejection { number, code, reason });
        match (status, code) {
            (StatusCode::OK, Some(SUCCESS)) if self.settings.acknowledge && acknowledgement.is_none() => {
                endpoint.has_acks.store(false, Ordering::Relaxed);
                let problem = "no acknowledgements: indexer acknowledgement is off for the token";
                Outcome::Failed(problem.into(), retry_after)
            }
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

    /// Waits until the events of a request are indexed.
    async fn wait_for_ack(&self, endpoint: &Endpoint, number: u64, channel: &str) -> Outcome {
        let timeout = Duration::from_secs(self.settings.acknowledge_seconds);
        let (begun, mut pause, mut last) = (Instant::now(), FIRST_POLL, String::new());
        while begun.elapsed() < timeout {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_POLL);
            match self.is_acknowledged(endpoint, number, channel).await {
                Ok(true) => return Outcome::Accepted(None),
                Ok(false) => last.clear(),
                Err(problem) => last = format!(" ({problem})"),
            }
        }
        let seconds = timeout.as_secs();
        Outcome::Failed(format!("not acknowledged within {seconds} seconds{last}: sending again"), None)
    }

    /// Returns true if the events of a request are indexed.
    async fn is_acknowledged(&self, endpoint: &Endpoint, number: u64, channel: &str) -> Result<bool, String> {
        let (status, response) = self.query_acks(endpoint, &[number], channel).await?;
        match response["acks"][number.to_string()].as_bool() {
            Some(indexed) => Ok(indexed),
            None => Err(format!("{status}: {}", response.to_string().chars().take(200).collect::<String>())),
        }
    }

    /// Queries acknowledgements. A body that is not JSON becomes null.
    async fn query_acks(
        &self,
        endpoint: &Endpoint,
        numbers: &[u64],
        channel: &str,
    ) -> Result<(StatusCode, Value), String> {
        let request = self.http.post(endpoint.acknowledgements.clone()).header(CHANNEL, channel);
        let request = request.header(AUTHORIZATION, self.authorization.clone());
        let body = json!({ "acks": numbers }).to_string();
        let response =
            request.header(CONTENT_TYPE, "application/json").body(body).send().await.map_err(error_chain)?;
        let status = response.status();
        Ok((status, serde_json::from_slice(&read_body(response).await?).unwrap_or_default()))
    }
}

/// The header with the channel of a request.
const CHANNEL: &str = "x-splunk-request-channel";

fn client(settings: &HecConfig) -> Result<reqwest::Client, ReceiverError> {
    // Fails if a provider is installed already, which is fine.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_secs(settings.timeout_seconds);
    let mut client = reqwest::Client::builder().connect_timeout(CONNECT).timeout(timeout).tcp_nodelay(true);
    // A redirect must not leak the token.
    client = client.redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(settings.requests);
    client = client.danger_accept_invalid_certs(!settings.verify);
    if let Some(file) = &settings.ca {
        let wrong =
            |error: &dyn fmt::Display| ReceiverError::setting("ca", format!("{}: {error}", file.display()));
        let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
        if authorities.is_empty() {
            return Err(wrong(&"contains no PEM certificate"));
        }
        for authority in authorities {
            client = client.add_root_certificate(authority);
        }
    }
    client.build().map_err(|error| ReceiverError::setting("urls", error))
}

/// A random UUID, the format that Splunk requires of a channel.
fn new_channel() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0xc << 60) | 4 << 76 | 8 << 60;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_settings() {
        let right =
            HecConfig { urls: vec!["https://h:8088".into()], token: "t".into(), ..HecConfig::default() };
        Hec::new(&right).unwrap();
        let problem = |change: fn(&mut HecConfig)| {
            let mut settings = right.clone();
            change(&mut settings);
            Hec::new(&settings).unwrap_err().to_string()
        };
        assert!(problem(|settings| settings.urls.clear()).contains("urls: is missing"));
        assert!(problem(|settings| settings.urls[0] = "splunk:8088".into()).contains("must begin with http"));
        assert!(problem(|settings| settings.urls[0] += "/services/collector/event").contains("remove"));
        assert!(problem(|settings| settings.token.clear()).contains("token: is missing"));
        assert!(problem(|settings| settings.token = "a\nb".into()).contains("token"));
        assert!(problem(|settings| settings.ca = Some("none.pem".into())).contains("none.pem"));
        assert!(!format!("{right:?}").contains("\"t\""), "the token is not shown");
    }

    #[test]
    fn channel_is_a_uuid() {
        let channel = new_channel();
        let parts: Vec<usize> = channel.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(channel.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&channel.as_bytes()[19]));
    }
}
