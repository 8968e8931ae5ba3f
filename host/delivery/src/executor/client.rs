//! The HTTP client of a function: its requests, and the errors of their answers.

use std::time::Duration;

use logship_config::function::FunctionConfig;
use logship_config::secret::Secret;
use logship_sink::error::SinkError;
use logship_sink::http;
use logship_sink::reload::Reloaded;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::executor::error::{CallError, Retry, code, retry_for};

/// Maximum size of an error response that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Maximum number of characters of an error response without a problem description.
const MAX_ERROR_CHARS: usize = 300;

/// The client of a function's rule.
#[derive(Debug)]
pub(super) struct Client {
    http: Reloaded<reqwest::Client>,
    url: Url,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl Client {
    /// Creates the client for a rule.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub(super) fn new(config: &FunctionConfig, rule: &str) -> Result<Self, SinkError> {
        let authorization = match &config.token {
            None => None,
            Some(token) => {
                let wrong = |_| {
                    SinkError::Settings("token: contains characters that are not allowed in a header".into())
                };
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(wrong)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let proxy = config.proxy.as_ref().map(Secret::expose);
        Ok(Self {
            http: http::client(config.timeout_seconds, proxy, config.ca.as_deref())?,
            url: config.endpoint(rule).map_err(SinkError::Settings)?,
            authorization,
            timeout: Duration::from_secs(config.timeout_seconds),
        })
    }

    /// The URL of the function's rule.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Begins a request that describes the rule.
    pub(super) fn get(&self) -> RequestBuilder {
        self.http.get().get(self.url.clone())
    }

    /// Begins a call.
    pub(super) fn post(&self) -> RequestBuilder {
        self.http.get().post(self.url.clone())
    }

    /// Sends a request. Any status but success is an error.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    /// The error of a request that failed on its way. A connection that is cut is the sign of a failed instance.
    pub(super) fn unreachable(&self, error: reqwest::Error) -> CallError {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out(self.timeout);
        }
        let is_cut = !error.is_connect() && (error.is_request() || error.is_body() || error.is_decode());
        let text = http::error_chain(error);
        if is_cut {
            let problem = format!("can't reach {}: {text}. If it runs, {STAGE_FAILED}", self.url);
            return CallError::new(Retry::Alone, problem);
        }
        CallError::new(Retry::Soon, format!("can't reach {}: {text}", self.url))
    }

    /// The error of a call that timed out. The function may still be running, so it is not called again at
    /// once.
    pub(super) fn timed_out(&self, time: Duration) -> CallError {
        let problem = format!("{} did not answer within {} seconds", self.url, time.as_secs());
        CallError::new(Retry::Later, problem)
    }

    /// Returns the error of a response without success.
    async fn problem(&self, mut response: Response) -> CallError {
        let status = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read_up_to(&mut response, MAX_ERROR_BYTES).await;
        let reported: Value = serde_json::from_slice(&body).unwrap_or_default();
        let kind =
            reported["type"].as_str().and_then(|kind| kind.rsplit_once(':')).map_or("", |(_, kind)| kind);
        let detail = reported["detail"].as_str();
        let text = String::from_utf8_lossy(&body);
        let text: String = text.trim().chars().take(MAX_ERROR_CHARS).collect();
        // The function describes its problems. Only its host answers like this.
        let is_stage_failure = status == StatusCode::INTERNAL_SERVER_ERROR && detail.is_none();
        let details = match detail {
            Some(detail) => format!("{status} ({kind}): {detail}"),
            None if is_stage_failure && text.is_empty() => {
                format!("{status} without a reason: {STAGE_FAILED}")
            }
            None => format!("{status}: {text}"),
        };
        CallError {
            message: format!("{} answered {details}", self.url),
            code: code(status, kind),
            retry: if is_stage_failure { Retry::Alone } else { retry_for(status) },
            retry_after: retry_after.map(Duration::from_secs),
            is_too_large: status == StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The error of a response that a proxy in between may have sent.
    pub(super) fn unexpected(&self, status: StatusCode) -> CallError {
        let problem = format!("{} answered {status}, but not like a logship function", self.url);
        CallError::new(Retry::Later, problem)
    }

    /// The error of settings that don't fit those of the function.
    pub(super) fn settings(&self, problem: &str) -> CallError {
        CallError::new(Retry::Later, format!("{}: {problem}", self.url))
    }
}

/// The meaning of an answer without a reason.
const STAGE_FAILED: &str = "a stage of this function failed, or a stage of a concurrent call in the same instance; the function's log has the reason";

/// Reads a body up to a size, to its end if it is not larger.
pub(super) async fn read_up_to(response: &mut Response, bytes: usize) -> Vec<u8> {
    let mut body: Vec<u8> = vec![];
    while body.len() < bytes
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    body
}

/// Returns a header as UTF-8: keys of objects may contain any character.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?.to_owned())
}
