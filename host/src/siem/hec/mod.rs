//! Splunk's HTTP Event Collector.
//!
//! - This file: `Hec`, which sends until all is accepted or refused. `settings`: its settings. `endpoint`: one of its URLs,
//!   and when it is left alone. `answer`: what is answered, and what it means.

mod answer;
mod endpoint;
mod settings;

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

pub use self::settings::Settings;
use answer::{
    Answer, INCORRECT_INDEX, LONGEST_REASON, NO_ACKNOWLEDGEMENTS, Outcome, REFUSED, Refusal, SUCCESS,
    limited, rest, words,
};
use endpoint::Endpoint;

use super::format::Formatted;
use super::receiver::{Health, ReceiverError, Refused};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How often it is asked whether events are indexed: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(100);
const LAST_POLL: Duration = Duration::from_secs(2);

/// A HEC receiver.
pub(crate) struct Hec {
    settings: Settings,
    http: reqwest::Client,
    authorization: HeaderValue,
    endpoints: Vec<Endpoint>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// Requests that may still be sent.
    requests: Semaphore,
    /// What acknowledgements are asked by: channels of this process only, which no request uses now. A channel is one
    /// request's until it is acknowledged: after a crash Splunk counts anew, and the number that one request still
    /// asks for would be that of another one.
    channels: Mutex<Vec<String>>,
    /// Events that were refused alone, one after the other.
    refused: AtomicUsize,
}

impl fmt::Debug for Hec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(formatter)
    }
}

/// Beyond so many events that were refused, without any that was not, it is not the events that are wrong.
const MOST_REFUSED: usize = 200;

impl Hec {
    pub(crate) fn new(settings: &Settings) -> Result<Self, ReceiverError> {
        if settings.urls.is_empty() {
            return Err(ReceiverError::setting("urls", "is missing: https://HOST:8088, one or several"));
        }
        if settings.token.is_empty() {
            return Err(ReceiverError::setting("token", "is missing"));
        }
        if settings.batch_bytes == 0 || settings.requests == 0 || settings.timeout_seconds == 0 {
            let problem = "batch-bytes, requests and timeout-seconds are at least 1";
            return Err(ReceiverError::setting("batch-bytes", problem));
        }
        let mut authorization = HeaderValue::from_str(&format!("Splunk {}", settings.token))
            .map_err(|_| ReceiverError::setting("token", "has characters that no token has"))?;
        authorization.set_sensitive(true);
        let endpoints = settings.urls.iter().map(|url| Endpoint::new(url)).collect::<Result<_, _>>()?;
        Ok(Self {
            http: client(settings)?,
            authorization,
            endpoints,
            turn: AtomicUsize::new(0),
            requests: Semaphore::new(settings.requests),
            channels: Mutex::default(),
            refused: AtomicUsize::new(0),
            settings: settings.clone(),
        })
    }

    /// Sends all messages, in as many requests as it takes, several at a time.
    pub(crate) async fn deliver(&self, chunks: &[Formatted], health: &Health) -> Vec<Refused> {
        let requests = chunks.iter().enumerate().flat_map(|(number, chunk)| {
            let ranges = self.cut(chunk).into_iter();
            ranges.map(move |range| self.send(number, chunk, range, health))
        });
        futures_util::future::join_all(requests).await.into_iter().flatten().collect()
    }

    /// The messages of each request.
    fn cut(&self, formatted: &Formatted) -> Vec<Range<usize>> {
        let ends = &formatted.messages.ends;
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

    /// Sends messages until all are accepted, but for those that are refused for good.
    async fn send(
        &self,
        chunk: usize,
        formatted: &Formatted,
        messages: Range<usize>,
        health: &Health,
    ) -> Vec<Refused> {
        let (mut left, mut refused) = (vec![messages], vec![]);
        // Where one is refused there may be many: what is left is not sent as a whole for each of them.
        let mut most = usize::MAX;
        while let Some(mut messages) = left.pop() {
            if messages.is_empty() {
                continue;
            }
            if messages.len() > most {
                left.push(messages.start + most..messages.end);
                messages.end = messages.start + most;
            }
            let events = formatted.bytes(messages.clone());
            let Err(refusal) = self.accepted(events, messages.len() == 1, health).await else {
                most = most.saturating_mul(2);
                continue;
            };
            if messages.len() == 1 {
                let Refusal { code, reason, .. } = refusal;
                refused.push(Refused { chunk, message: messages.start, code, reason });
                most = 1;
                continue;
            }
            // Whether those before it were accepted is not said: rather twice than never. And only one that is refused
            // alone is surely the one that is meant.
            match refusal.number.filter(|number| *number < messages.len()) {
                Some(number) => {
                    let bad = messages.start + number;
                    left.extend([bad + 1..messages.end, bad..bad + 1, messages.start..bad]);
                }
                None => {
                    let middle = messages.start + messages.len() / 2;
                    left.extend([middle..messages.end, messages.start..middle]);
                }
            }
        }
        refused
    }

    /// Sends a body until it is accepted or, for good, refused. Whether it has one event `alone`.
    async fn accepted(&self, events: &[u8], alone: bool, health: &Health) -> Result<(), Refusal> {
        let body = self.body(events).await;
        loop {
            let channel =
                self.settings.acknowledge.then(|| self.channels().pop().unwrap_or_else(new_channel));
            let (endpoint, outcome) = {
                let _permit = self.requests.acquire().await;
                // Now, not before: it may rest by now.
                let endpoint = self.endpoint().await;
                (endpoint, self.sent(endpoint, body.clone(), channel.as_deref()).await)
            };
            let outcome = match (outcome, &channel) {
                (Outcome::Accepted(Some(number)), Some(channel)) => {
                    self.acknowledged(endpoint, number, channel).await
                }
                (other, _) => other,
            };
            match outcome {
                Outcome::Accepted(_) => {
                    self.refused.store(0, Ordering::Relaxed);
                    endpoint.works();
                    health.works();
                    self.channels().extend(channel);
                    return Ok(());
                }
                Outcome::Refused(refusal) => {
                    if alone && self.refused.fetch_add(1, Ordering::Relaxed) >= MOST_REFUSED {
                        let hint = match refusal.code.as_str() {
                            "7" => "the token has to open their index",
                            _ => "it is how they are sent that is wrong, and not they",
                        };
                        let problem = format!(
                            "{} (code {}). So it was with all of the last events: {hint}",
                            refusal.reason, refusal.code
                        );
                        endpoint.failed(health, &problem, None);
                        continue;
                    }
                    endpoint.works();
                    return Err(refusal);
                }
                Outcome::Failed(problem, rest) => endpoint.failed(health, &problem, rest),
            }
        }
    }

    /// Posts events, but not to an endpoint that would take them and never acknowledge them: it would get them again
    /// and again.
    async fn sent(&self, endpoint: &Endpoint, body: Bytes, channel: Option<&str>) -> Outcome {
        if let Some(channel) = channel
            && !endpoint.acknowledges.load(Ordering::Relaxed)
        {
            match self.asked(endpoint, &[], channel).await {
                Ok((_, answer)) if answer["code"] == NO_ACKNOWLEDGEMENTS => {
                    let problem = "it gives no acknowledgements: the token has indexer acknowledgement off; nothing is sent until it is on";
                    return Outcome::Failed(problem.into(), None);
                }
                Ok((status, answer)) if !status.is_success() => {
                    return Outcome::Failed(format!("{status}: {answer}"), None);
                }
                Ok(_) => endpoint.acknowledges.store(true, Ordering::Relaxed),
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
            // Into memory: there is nothing to fail.
            gzip.write_all(&events).and_then(|()| gzip.finish()).unwrap_or_default()
        };
        tokio::task::spawn_blocking(compress).await.unwrap_or_default().into()
    }

    /// An endpoint that is not resting, in turn. Waits until there is one.
    async fn endpoint(&self) -> &Endpoint {
        loop {
            let (first, now) = (self.turn.fetch_add(1, Ordering::Relaxed), Instant::now());
            let in_turn = |number: usize| &self.endpoints[(first + number) % self.endpoints.len()];
            let mut all = (0..self.endpoints.len()).map(in_turn);
            if let Some(endpoint) =
                all.find(|endpoint| endpoint.rests_until().is_none_or(|until| until <= now))
            {
                return endpoint;
            }
            let until = self.endpoints.iter().filter_map(Endpoint::rests_until).min().unwrap_or(now);
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
            Err(error) => Outcome::Failed(words(error), None),
        }
    }

    /// What an answer means.
    async fn read(&self, endpoint: &Endpoint, response: Response) -> Outcome {
        let (status, rest) = (response.status(), rest(&response));
        let body = match limited(response).await {
            Ok(body) => body,
            Err(problem) => return Outcome::Failed(format!("{status}, and then {problem}"), rest),
        };
        let Answer { text, code, invalid, acknowledgement } =
            serde_json::from_slice(&body).unwrap_or_default();
        let text: String = text.chars().take(LONGEST_REASON).collect();
        let said = match code {
            Some(code) => format!("{status}: {text} (code {code})"),
            None => format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)])),
        };
        let refused = |number, code: String, reason| Outcome::Refused(Refusal { number, code, reason });
        match (status, code) {
            (StatusCode::OK, Some(SUCCESS)) if self.settings.acknowledge && acknowledgement.is_none() => {
                endpoint.acknowledges.store(false, Ordering::Relaxed);
                let problem = "it gives no acknowledgements: the token has indexer acknowledgement off";
                Outcome::Failed(problem.into(), rest)
            }
            (StatusCode::OK, Some(SUCCESS)) => Outcome::Accepted(acknowledgement),
            // A page of something between, perhaps.
            (StatusCode::OK, _) => Outcome::Failed(format!("{said}: this is no answer of HEC"), rest),
            (StatusCode::BAD_REQUEST, Some(INCORRECT_INDEX)) => {
                // Only with this code it counts from one.
                refused(invalid.and_then(|number| number.checked_sub(1)), INCORRECT_INDEX.to_string(), text)
            }
            (StatusCode::BAD_REQUEST, Some(code)) if REFUSED.contains(&code) => {
                refused(invalid, code.to_string(), text)
            }
            (StatusCode::PAYLOAD_TOO_LARGE, _) => refused(None, "413".into(), said),
            _ => Outcome::Failed(said, rest),
        }
    }

    /// Waits until the events of a request are indexed.
    async fn acknowledged(&self, endpoint: &Endpoint, number: u64, channel: &str) -> Outcome {
        let patience = Duration::from_secs(self.settings.acknowledge_seconds);
        let (begun, mut pause, mut last) = (Instant::now(), FIRST_POLL, String::new());
        while begun.elapsed() < patience {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_POLL);
            match self.ask(endpoint, number, channel).await {
                Ok(true) => return Outcome::Accepted(None),
                Ok(false) => last.clear(),
                Err(problem) => last = format!(" ({problem})"),
            }
        }
        let seconds = patience.as_secs();
        Outcome::Failed(format!("not acknowledged within {seconds} seconds{last}: sent again"), None)
    }

    /// Whether the events of a request are indexed.
    async fn ask(&self, endpoint: &Endpoint, number: u64, channel: &str) -> Result<bool, String> {
        let (status, answer) = self.asked(endpoint, &[number], channel).await?;
        match answer["acks"][number.to_string()].as_bool() {
            Some(indexed) => Ok(indexed),
            None => Err(format!("{status}: {}", answer.to_string().chars().take(200).collect::<String>())),
        }
    }

    /// Asks for acknowledgements. An answer that is no JSON is null.
    async fn asked(
        &self,
        endpoint: &Endpoint,
        numbers: &[u64],
        channel: &str,
    ) -> Result<(StatusCode, Value), String> {
        let request = self.http.post(endpoint.acknowledgements.clone()).header(CHANNEL, channel);
        let request = request.header(AUTHORIZATION, self.authorization.clone());
        let body = json!({ "acks": numbers }).to_string();
        let response =
            request.header(CONTENT_TYPE, "application/json").body(body).send().await.map_err(words)?;
        let status = response.status();
        Ok((status, serde_json::from_slice(&limited(response).await?).unwrap_or_default()))
    }
}

/// The header of the channel that acknowledgements are asked by.
const CHANNEL: &str = "x-splunk-request-channel";

fn client(settings: &Settings) -> Result<reqwest::Client, ReceiverError> {
    // The first to come installs it; another one of the same kind is as good.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_secs(settings.timeout_seconds);
    let mut client = reqwest::Client::builder().connect_timeout(CONNECT).timeout(timeout).tcp_nodelay(true);
    // The token is for no one else.
    client = client.redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(settings.requests);
    client = client.danger_accept_invalid_certs(!settings.verify);
    if let Some(file) = &settings.ca {
        let wrong =
            |error: &dyn fmt::Display| ReceiverError::setting("ca", format!("{}: {error}", file.display()));
        let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
        if authorities.is_empty() {
            return Err(wrong(&"has no certificate in PEM"));
        }
        for authority in authorities {
            client = client.add_root_certificate(authority);
        }
    }
    client.build().map_err(|error| ReceiverError::setting("urls", error))
}

/// A random UUID, as Splunk wants a channel to be.
fn new_channel() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0xc << 60) | 4 << 76 | 8 << 60;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_can_not_be_are_named() {
        let right =
            Settings { urls: vec!["https://h:8088".into()], token: "t".into(), ..Settings::default() };
        Hec::new(&right).unwrap();
        let problem = |change: fn(&mut Settings)| {
            let mut settings = right.clone();
            change(&mut settings);
            Hec::new(&settings).unwrap_err().to_string()
        };
        assert!(problem(|settings| settings.urls.clear()).contains("urls: is missing"));
        assert!(problem(|settings| settings.urls[0] = "splunk:8088".into()).contains("neither http"));
        assert!(problem(|settings| settings.urls[0] += "/services/collector/event").contains("leave out"));
        assert!(problem(|settings| settings.token.clear()).contains("token: is missing"));
        assert!(problem(|settings| settings.token = "a\nb".into()).contains("token"));
        assert!(problem(|settings| settings.ca = Some("none.pem".into())).contains("none.pem"));
        assert!(!format!("{right:?}").contains("\"t\""), "the token is not shown");
    }

    #[test]
    fn a_channel_is_a_uuid() {
        let channel = new_channel();
        let parts: Vec<usize> = channel.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(channel.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&channel.as_bytes()[19]));
    }
}
