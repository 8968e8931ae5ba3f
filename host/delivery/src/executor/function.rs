//! A function that makes objects from the batches of a call. docs/serverless.md describes the calls.
//!
//! The function runs the same stages as this program, elsewhere. It delivers the object itself or returns it.
//! Each call contains the specification and the key of its object. A function that would make another object
//! reports this and makes none. A call is idempotent and is retried until it succeeds.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::Xxh3Default;

use crate::executor::call::{Answer, Call};
use crate::executor::error::{CallError, Retry, code, retry_for};
use logship_config::function::{FunctionConfig, MAX_RAW_BYTES};
use logship_config::secret::Secret;
use logship_sink::error::SinkError;
use logship_sink::http;
use logship_sink::object::ObjectSink;
use logship_sink::reload::Reloaded;
use logship_sink::staged_file::{FinishedFile, StagedFile};
use logship_source::group_list::ListLimits;

/// The function of a rule. Its methods block.
#[derive(Debug)]
pub struct Function {
    http: Reloaded<reqwest::Client>,
    url: Url,
    authorization: Option<HeaderValue>,
    /// True if the settings name the store of the objects.
    has_store: bool,
    runtime: Handle,
    max_body_bytes: usize,
    timeout: Duration,
}

/// Retries of a call within one attempt of its task.
const RETRIES: u32 = 2;

/// Delay before the first retry. It doubles with each retry.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Longest delay within one attempt of the task. Longer delays are left to the task's next attempt.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Interval at which a waiting call checks for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Timeout for the probe of a new rule's function.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum size of an error response that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Maximum number of characters fields of an error response without a problem description.
const MAX_ERROR_CHARS: usize = 300;

impl Function {
    /// Creates the client for a rule. `has_store` is true if the settings name the store of the objects.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub(crate) fn new(
        config: &FunctionConfig,
        rule: &str,
        has_store: bool,
        runtime: Handle,
    ) -> Result<Self, SinkError> {
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
            has_store,
            runtime,
            max_body_bytes: config.body_bytes,
            timeout: Duration::from_secs(config.timeout_seconds),
        })
    }

    /// Returns true if the settings name the store of the objects.
    pub(crate) fn has_store(&self) -> bool {
        self.has_store
    }

    /// Returns the maximum size of a call's logs.
    pub(crate) fn max_bytes(&self) -> ListLimits {
        ListLimits { compressed: self.max_body_bytes, raw: MAX_RAW_BYTES }
    }

    /// Asks the function whether it would make these objects.
    ///
    /// # Errors
    /// If it would not, or is unreachable.
    pub(crate) fn probe(&self, spec: &str) -> Result<(), CallError> {
        let probe = async {
            let request = self.http.get().get(self.url.clone()).header(SPEC, spec);
            let response = self.send(request).await?;
            let header = |name: &str| text(response.headers(), name);
            match header(DELIVERS).as_deref() {
                Some("hec") => Err(self.settings("its rule delivers events to Splunk instead of objects")),
                Some("caller") if !self.has_store => Err(self.settings(NO_STORE)),
                Some("url") => {
                    Err(self
                        .settings("its rule delivers to presigned URLs, which this service does not create"))
                }
                Some(_) => Ok(()),
                None => Err(self.unexpected(response.status())),
            }
        };
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(PROBE_TIMEOUT, probe).await;
            answered.unwrap_or_else(|_| Err(self.timed_out(PROBE_TIMEOUT)))
        })
    }

    /// Lets the function make the object of a call, and deliver it or return it for `sink`. Retries as long as a retry may
    /// succeed soon. Returns `None` if `is_cancelled` becomes true.
    ///
    /// # Errors
    /// If no object was made, or its state is unknown.
    pub(crate) fn call(
        &self,
        call: Call<'_>,
        sink: &dyn ObjectSink,
        is_cancelled: impl Fn() -> bool,
    ) -> Option<Result<Answer, CallError>> {
        let headers = match self.headers(&call) {
            Ok(headers) => headers,
            Err(error) => return Some(Err(error)),
        };
        let body = Bytes::from(call.logs.compressed);
        let expected = Expected { rows: call.logs.rows, key: call.key };
        let mut retries = 0;
        loop {
            let request = self.http.get().post(self.url.clone()).headers(headers.clone()).body(body.clone());
            let answered = self.runtime.block_on(async {
                let answer = self.answer(request, &call.task, &expected, sink);
                tokio::select! {
                    answer = answer => Some(answer),
                    () = cancelled(&is_cancelled) => None,
                }
            })?;
            let error = match answered {
                Ok(answer) => return Some(Ok(answer)),
                Err(error) => error,
            };
            let delay = error.retry_after.unwrap_or_default().max(RETRY_DELAY * 2_u32.pow(retries));
            if error.retry != Retry::Soon || retries == RETRIES || delay > MAX_RETRY_DELAY {
                return Some(Err(error));
            }
            retries += 1;
            tracing::debug!(url = %self.url, task = call.task, %error, ?delay, "retrying the call");
            // Add jitter, to spread the retries.
            let delay = delay.mul_f64(1.0 + fastrand::f64() / 2.0);
            let waited = async {
                tokio::select! {
                    () = tokio::time::sleep(delay) => true,
                    () = cancelled(&is_cancelled) => false,
                }
            };
            if !self.runtime.block_on(waited) {
                return None;
            }
        }
    }

    /// Returns the headers of a call.
    fn headers(&self, call: &Call<'_>) -> Result<HeaderMap, CallError> {
        let mut headers = HeaderMap::new();
        let fields = [
            (TASK, call.task.clone()),
            (KEY, call.key.to_owned()),
            (SPEC, call.spec.to_owned()),
            ("x-logship-shard", call.shard.to_string()),
            ("x-logship-range", call.range.clone()),
            ("x-logship-project", call.project.to_owned()),
            ("x-logship-logstore", call.logstore.to_owned()),
            ("x-log-bodyrawsize", call.logs.raw_bytes.to_string()),
            // The function sends only an XXH3. This machine computes the SHA-256 of a returned object: it may have
            // instructions for it.
            ("x-logship-digest", "xxh3".to_owned()),
        ];
        for (name, value) in fields {
            match HeaderValue::from_bytes(value.as_bytes()) {
                Ok(value) => headers.insert(name, value),
                Err(_) => return Err(self.settings(&format!("the header {name} can't contain {value:?}"))),
            };
        }
        headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf; message=LogGroupList"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("lz4"));
        Ok(headers)
    }

    async fn answer(
        &self,
        request: RequestBuilder,
        task: &str,
        expected: &Expected<'_>,
        sink: &dyn ObjectSink,
    ) -> Result<Answer, CallError> {
        let response = self.send(request).await?;
        let headers = response.headers().clone();
        let header = |name: &str| text(&headers, name);
        let number = |name: &str| header(name)?.parse::<u64>().ok();
        if header(TASK).as_deref() != Some(task) {
            return Err(self.unexpected(response.status()));
        }
        let (rows, key) = (number("x-logship-rows"), header(KEY).unwrap_or_default());
        if rows != Some(expected.rows) || key != expected.key {
            let (made, wanted) = (rows.unwrap_or(0), expected.rows);
            return Err(self.settings(&format!(
                "it made the object {key:?} with {made} logs instead of {:?} with {wanted}: its version is not compatible with this one",
                expected.key
            )));
        }
        let status = response.status();
        let (Some(raw_bytes), Some(stored_bytes)) =
            (number("x-logship-raw-bytes"), number("x-logship-stored-bytes"))
        else {
            return Err(self.unexpected(status));
        };
        let sha256 = header("x-logship-sha256").filter(|sha256| sha256.len() == 64);
        let stages = header("x-logship-stages").unwrap_or_default();
        if header("x-logship-delivered").is_some() {
            let sha256 = sha256.ok_or_else(|| self.unexpected(status))?;
            return Ok(Answer { raw_bytes, stored_bytes, sha256, stages, object: None });
        }
        let (file, xxh3) = self.download(response, expected.key, sink).await?;
        let matches_headers = match (header("x-logship-xxh3"), sha256) {
            (Some(reported), _) => reported == xxh3,
            // A function of an older version, which ignores `x-logship-digest`.
            (None, Some(reported)) => reported == file.sha256,
            (None, None) => return Err(self.unexpected(status)),
        };
        if !matches_headers || file.bytes != stored_bytes {
            let problem =
                format!("the object from {} does not match the size or digest in its headers", self.url);
            return Err(CallError::new(Retry::Soon, problem));
        }
        let sha256 = file.sha256.clone();
        Ok(Answer { raw_bytes, stored_bytes, sha256, stages, object: Some(file) })
    }

    /// Downloads the object in a response's body. Returns it with its XXH3 (128 bits) in hexadecimal.
    async fn download(
        &self,
        mut response: Response,
        key: &str,
        sink: &dyn ObjectSink,
    ) -> Result<(FinishedFile, String), CallError> {
        if !self.has_store {
            return Err(self.settings(NO_STORE));
        }
        let disk = |error: &dyn std::fmt::Display| CallError::new(Retry::Later, error.to_string());
        let mut staged: StagedFile = sink.begin(key, 0).map_err(|error| disk(&error))?;
        let mut xxh3 = Xxh3Default::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            staged.write(&piece).map_err(|error| disk(&error))?;
            xxh3.update(&piece);
        }
        let file = staged.finish(&[]).map_err(|error| disk(&error))?;
        Ok((file, format!("{:032x}", xxh3.digest128())))
    }

    /// Sends a request. Any status but success is an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    fn unreachable(&self, error: reqwest::Error) -> CallError {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out(self.timeout);
        }
        let error = error.without_url();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        CallError::new(Retry::Soon, format!("can't reach {}: {text}", self.url))
    }

    /// The error of a call that timed out. The function may still be running, so it is not called again at
    /// once.
    fn timed_out(&self, time: Duration) -> CallError {
        let problem = format!("{} did not answer within {} seconds", self.url, time.as_secs());
        CallError::new(Retry::Later, problem)
    }

    /// Returns the error of a response without success.
    async fn problem(&self, mut response: Response) -> CallError {
        let status = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body: Vec<u8> = vec![];
        while body.len() < MAX_ERROR_BYTES
            && let Ok(Some(piece)) = response.chunk().await
        {
            body.extend_from_slice(&piece);
        }
        let reported: Value = serde_json::from_slice(&body).unwrap_or_default();
        let kind =
            reported["type"].as_str().and_then(|kind| kind.rsplit_once(':')).map_or("", |(_, kind)| kind);
        let details = match reported["detail"].as_str() {
            Some(detail) => format!("{status} ({kind}): {detail}"),
            None => {
                let text = String::from_utf8_lossy(&body);
                format!("{status}: {}", text.trim().chars().take(MAX_ERROR_CHARS).collect::<String>())
            }
        };
        CallError {
            message: format!("{} answered {details}", self.url),
            code: code(status, kind),
            retry: retry_for(status),
            retry_after: retry_after.map(Duration::from_secs),
            is_too_large: status == StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The error of a response that a proxy in between may have sent.
    fn unexpected(&self, status: StatusCode) -> CallError {
        let problem = format!("{} answered {status}, but not like a logship function", self.url);
        CallError::new(Retry::Later, problem)
    }

    fn settings(&self, problem: &str) -> CallError {
        CallError::new(Retry::Later, format!("{}: {problem}", self.url))
    }
}

const NO_STORE: &str = "its rule returns objects, but the destination has no store for them: set `deliver` in that rule, or `store` in the destination";

/// Values that a response must repeat.
struct Expected<'a> {
    rows: u64,
    key: &'a str,
}

const TASK: &str = "x-logship-task";
const KEY: &str = "x-logship-key";
const SPEC: &str = "x-logship-rule";
const DELIVERS: &str = "x-logship-delivers";

/// Returns when the call is cancelled.
async fn cancelled(is_cancelled: &impl Fn() -> bool) {
    while !is_cancelled() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns a header as UTF-8: keys of objects may contain any character.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?.to_owned())
}
