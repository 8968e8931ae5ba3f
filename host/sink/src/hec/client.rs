//! Requests to HEC, over all endpoints of a receiver.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use logship_config::hec::HecConfig;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::error::{self, NO_ACKNOWLEDGEMENTS, Outcome, retry_after};
use crate::backoff::Backoff;
use crate::error::SinkError;
use crate::gate::Start;
use crate::health::Health;
use crate::http::error_chain;
use crate::reload::Reloaded;
use crate::tls::{self, Trust, install_crypto_provider};

/// Connect timeout.
const CONNECT: Duration = Duration::from_secs(10);

/// Interval between acknowledgement queries. It doubles from the first to the last value.
const FIRST_POLL: Duration = Duration::from_millis(100);
const LAST_POLL: Duration = Duration::from_secs(2);

/// Largest retry delay that a receiver may ask for.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

/// Largest response body, in bytes. HEC's have a few hundred, and some compatible receivers add members.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The header with the channel of a request.
const CHANNEL: &str = "x-splunk-request-channel";

/// The client of a receiver.
pub(super) struct Client {
    http: Reloaded<reqwest::Client>,
    authorization: HeaderValue,
    gzip: bool,
    acknowledge: bool,
    acknowledge_timeout: Duration,
    endpoints: Vec<Endpoint>,
    /// Counter for round robin over the endpoints.
    round_robin: AtomicUsize,
    /// Permits for concurrent requests.
    requests: Semaphore,
}

/// A URL of a receiver.
pub(super) struct Endpoint {
    events: Url,
    acknowledgements: Url,
    retry: Mutex<RetryState>,
    /// True if the token has indexer acknowledgement, as an earlier request showed.
    has_acks: AtomicBool,
}

/// The retry state of an endpoint.
#[derive(Default)]
struct RetryState {
    backoff: Backoff,
    until: Option<Instant>,
}

impl Client {
    pub(super) fn new(
        settings: &HecConfig,
        http: Reloaded<reqwest::Client>,
        authorization: HeaderValue,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        Self {
            http,
            authorization,
            gzip: settings.gzip,
            acknowledge: settings.acknowledge,
            acknowledge_timeout: Duration::from_secs(settings.acknowledge_seconds),
            endpoints,
            round_robin: AtomicUsize::new(0),
            requests: Semaphore::new(settings.requests),
        }
    }

    /// Sends events to an available endpoint, and waits for the acknowledgement if `channel` has one.
    pub(super) async fn send(
        &self,
        body: Bytes,
        channel: Option<&str>,
        start: &Start,
    ) -> (&Endpoint, Outcome) {
        let (endpoint, outcome) = {
            let _permit = self.requests.acquire().await;
            // Chosen after the permit, since an endpoint may back off meanwhile.
            let endpoint = self.available_endpoint().await;
            start.begin().await;
            (endpoint, self.post_if_acknowledged(endpoint, body, channel).await)
        };
        match (outcome, channel) {
            (Outcome::Accepted { acknowledgement: Some(number), warning }, Some(channel)) => {
                (endpoint, self.wait_for_ack(endpoint, number, channel, warning).await)
            }
            (other, _) => (endpoint, other),
        }
    }

    /// Posts a request without events to each endpoint.
    pub(super) async fn probe(&self, channel: &str) -> Result<(), SinkError> {
        for endpoint in &self.endpoints {
            let origin = endpoint.origin();
            let unavailable = |problem| SinkError::Unavailable(format!("{origin}: {problem}"));
            let request = self.request(&endpoint.events).header(CHANNEL, channel);
            let response = request.send().await.map_err(error_chain).map_err(unavailable)?;
            let (status, location) = (response.status(), location(&response));
            let body = read_body(response).await.map_err(unavailable)?;
            error::probed(&origin, status, &body, location.as_deref())?;
        }
        Ok(())
    }

    fn request(&self, url: &Url) -> RequestBuilder {
        let request = self.http.get().post(url.clone()).header(AUTHORIZATION, self.authorization.clone());
        request.header(CONTENT_TYPE, "application/json")
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
                Ok((_, response)) if response["acks"].is_object() => {
                    endpoint.has_acks.store(true, Ordering::Relaxed);
                }
                Ok((status, _)) => {
                    let problem = format!(
                        "no acknowledgements: {status}, but no answer of Splunk's to a query for them; nothing is sent until acknowledge = false"
                    );
                    return Outcome::Failed(problem, None);
                }
                Err(problem) => return Outcome::Failed(problem, None),
            }
        }
        self.post(endpoint, body, channel).await
    }

    async fn post(&self, endpoint: &Endpoint, body: Bytes, channel: Option<&str>) -> Outcome {
        let mut request = self.request(&endpoint.events);
        if self.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(channel) = channel {
            request = request.header(CHANNEL, channel);
        }
        let response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Failed(error_chain(error), None),
        };
        let (status, retry_after) = (response.status(), retry_after(&response));
        let location = location(&response);
        let outcome = match read_body(response).await {
            Ok(body) => error::outcome(status, &body, location.as_deref(), retry_after),
            Err(problem) => return Outcome::Failed(format!("{status}, then {problem}"), retry_after),
        };
        match outcome {
            Outcome::Accepted { acknowledgement: None, .. } if self.acknowledge => {
                endpoint.has_acks.store(false, Ordering::Relaxed);
                let problem = "no acknowledgements: indexer acknowledgement is off for the token";
                Outcome::Failed(problem.into(), retry_after)
            }
            other => other,
        }
    }

    /// Waits until the events of a request are indexed. Keeps the warning of the request's answer.
    async fn wait_for_ack(
        &self,
        endpoint: &Endpoint,
        number: u64,
        channel: &str,
        warning: Option<String>,
    ) -> Outcome {
        let timeout = self.acknowledge_timeout;
        let (begun, mut pause, mut last) = (Instant::now(), FIRST_POLL, String::new());
        while begun.elapsed() < timeout {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_POLL);
            match self.is_acknowledged(endpoint, number, channel).await {
                Ok(true) => return Outcome::Accepted { acknowledgement: None, warning },
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
        let request = self.request(&endpoint.acknowledgements).header(CHANNEL, channel);
        let body = json!({ "acks": numbers }).to_string();
        let response = request.body(body).send().await.map_err(error_chain)?;
        let status = response.status();
        Ok((status, serde_json::from_slice(&read_body(response).await?).unwrap_or_default()))
    }
}

impl Endpoint {
    pub(super) fn new(events: Url, acknowledgements: Url) -> Self {
        Self { events, acknowledgements, retry: Mutex::default(), has_acks: AtomicBool::new(false) }
    }

    /// Returns scheme, host and port.
    fn origin(&self) -> String {
        self.events.origin().ascii_serialization()
    }

    fn retry_state(&self) -> MutexGuard<'_, RetryState> {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_attempt(&self) -> Option<Instant> {
        self.retry_state().until
    }

    /// Backs off and reports a failure.
    pub(super) fn report_failure(&self, health: &Health, problem: &str, retry_after: Option<Duration>) {
        let wait = self.record_failure(retry_after);
        health.record_failure(format!("{}: {problem}", self.origin()), wait);
    }

    /// Ends the backing off.
    pub(super) fn record_success(&self) {
        // `until` stays, in case a concurrent request was asked to back off.
        self.retry_state().backoff = Backoff::default();
    }

    /// Backs off: as long as the receiver asks for, or exponentially. Returns the delay.
    fn record_failure(&self, retry_after: Option<Duration>) -> Duration {
        let (mut retry, now) = (self.retry_state(), Instant::now());
        if let Some(until) = retry.until.filter(|until| *until > now) {
            // Concurrent requests that fail together count once.
            return until - now;
        }
        let wait = retry_after.unwrap_or_default().min(MAX_RETRY_DELAY).max(retry.backoff.next_delay());
        retry.until = Some(now + wait);
        wait
    }
}

/// Builds the HTTP client. A changed file of authorities makes a new one.
pub(super) fn http(settings: &HecConfig) -> Result<Reloaded<reqwest::Client>, SinkError> {
    let settings = settings.clone();
    Reloaded::new(settings.ca.clone(), move || build(&settings))
}

fn build(settings: &HecConfig) -> Result<reqwest::Client, SinkError> {
    install_crypto_provider();
    let timeout = Duration::from_secs(settings.timeout_seconds);
    let mut client = reqwest::Client::builder().connect_timeout(CONNECT).timeout(timeout).tcp_nodelay(true);
    // A redirect must not leak the token.
    client = client.redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(settings.requests);
    if settings.ca.is_some() || !settings.verify {
        let trust = if settings.verify { Trust::System(settings.ca.clone()) } else { Trust::All };
        let config = tls::client(&trust).map_err(|error| SinkError::receiver("ca", error))?;
        client = client.tls_backend_preconfigured(config.with_no_client_auth());
    }
    client.build().map_err(|error| SinkError::receiver("urls", error))
}

/// The target of a redirect.
fn location(response: &Response) -> Option<String> {
    Some(response.headers().get(LOCATION)?.to_str().ok()?.to_owned())
}

/// Reads a response body up to [`MAX_RESPONSE_BYTES`]. Some proxies compress it without being asked.
async fn read_body(mut response: Response) -> Result<Vec<u8>, String> {
    let encoding = response.headers().get(CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok());
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let mut body = vec![];
    while let Some(part) = response.chunk().await.map_err(error_chain)? {
        body.extend_from_slice(&part);
        if body.len() > MAX_RESPONSE_BYTES {
            return Err(format!("a response of more than {MAX_RESPONSE_BYTES} bytes, which is not from HEC"));
        }
    }
    let decoder: Box<dyn Read + Send + '_> = match encoding.as_str() {
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(&*body)),
        "deflate" => Box::new(ZlibDecoder::new(&*body)),
        _ => return Ok(body),
    };
    let mut plain = vec![];
    let read = decoder.take(MAX_RESPONSE_BYTES as u64).read_to_end(&mut plain);
    read.map_err(|error| format!("a response that is not valid {encoding}: {error}"))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_honours_retry_after_and_counts_concurrent_failures_once() {
        let endpoint = crate::hec::config::endpoint("http://h:1/below/").unwrap();
        assert_eq!(endpoint.events.as_str(), "http://h:1/below/services/collector/event");
        let wait = endpoint.record_failure(Some(Duration::from_secs(7)));
        assert_eq!(wait, Duration::from_secs(7));
        assert!(endpoint.record_failure(None) <= wait && endpoint.retry_state().backoff.attempts() == 1);
        endpoint.record_success();
        assert!(
            endpoint.retry_state().backoff.attempts() == 0 && endpoint.next_attempt() > Some(Instant::now())
        );
        endpoint.retry_state().until = None;
        assert_eq!(endpoint.record_failure(Some(Duration::from_secs(9999))), MAX_RETRY_DELAY);
    }
}
