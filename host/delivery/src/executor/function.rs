//! A function that makes objects from the batches of a call. docs/serverless.md describes the calls.
//!
//! The function runs the same stages as this program, elsewhere. It delivers the object itself or returns it.
//! Each call contains the specification and the key of its object. A function that would make another object
//! reports this and makes none. A call is idempotent and is retried until it succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::Xxh3Default;

use crate::executor::call::{Answer, Call};
use crate::executor::client::{Client, read_up_to, text};
use crate::executor::error::{CallError, Retry};
use crate::executor::fleet::Fleet;
use logship_config::function::{FunctionConfig, MAX_RAW_BYTES};
use logship_logstore::LostValues;
use logship_sink::error::SinkError;
use logship_sink::object::ObjectSink;
use logship_sink::staged_file::{FinishedFile, StagedFile};
use logship_source::group_list::ListLimits;

/// The function of a rule. Its methods block.
#[derive(Debug)]
pub struct Function {
    client: Client,
    fleet: Arc<Fleet>,
    /// True if the settings name the store of the objects.
    has_store: bool,
    runtime: Handle,
    max_body_bytes: usize,
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

/// Timeout for the question about the limits of calls.
const LIMITS_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum size of the body of an answer whose object is delivered, in bytes.
const MAX_EMPTY_BODY: usize = 64 << 10;

impl Function {
    /// Creates the function of a rule. `has_store` is true if the settings name the store of the objects. `fleet` is the
    /// state of all functions of the destination.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub(crate) fn new(
        config: &FunctionConfig,
        rule: &str,
        has_store: bool,
        fleet: Arc<Fleet>,
        runtime: Handle,
    ) -> Result<Self, SinkError> {
        let client = Client::new(config, rule)?;
        Ok(Self { client, fleet, has_store, runtime, max_body_bytes: config.body_bytes })
    }

    /// Returns the URL of the function's rule.
    pub(crate) fn url(&self) -> &str {
        self.client.url().as_str()
    }

    /// Returns true if the settings name the store of the objects.
    pub(crate) fn has_store(&self) -> bool {
        self.has_store
    }

    /// Returns the maximum size of a call's logs: the settings' limit, or the function's if it is lower.
    pub(crate) fn max_bytes(&self) -> ListLimits {
        let set = ListLimits { compressed: self.max_body_bytes, raw: MAX_RAW_BYTES };
        match self.fleet_limits() {
            None => set,
            Some(limits) => {
                ListLimits { compressed: set.compressed.min(limits.compressed), raw: set.raw.min(limits.raw) }
            }
        }
    }

    /// Returns the function's limits. Asks for them if they are unknown or old.
    fn fleet_limits(&self) -> Option<ListLimits> {
        if self.fleet.needs_limits() {
            let described = self.runtime.block_on(async {
                let request = self.client.get().timeout(LIMITS_TIMEOUT);
                self.client.send(request).await.ok()
            });
            // Without an answer, the call tells the problem.
            let earlier = self.fleet.limits();
            self.fleet.save_limits(described.map_or(earlier, |response| limits(response.headers())));
        }
        self.fleet.limits()
    }

    /// Fails if a call is larger than the function takes, before the logs are sent.
    fn check_size(&self, call: &Call<'_>) -> Result<(), CallError> {
        let Some(limits) = self.fleet_limits() else { return Ok(()) };
        let (body, raw) = (call.logs.compressed.len(), call.logs.raw_bytes);
        if body <= limits.compressed && raw <= limits.raw {
            return Ok(());
        }
        let problem = format!(
            "the call has {body} bytes ({raw} before compression), but {} takes {} ({}): the next attempt makes it smaller",
            self.url(),
            limits.compressed,
            limits.raw
        );
        Err(CallError { is_too_large: true, ..CallError::new(Retry::Later, problem) })
    }

    /// Asks the function whether it would make these objects.
    ///
    /// # Errors
    /// If it would not, or is unreachable.
    pub(crate) fn probe(&self, spec: &str) -> Result<(), CallError> {
        let probe = async {
            let response = self.client.send(self.client.get().header(SPEC, spec)).await?;
            self.fleet.save_limits(limits(response.headers()));
            let header = |name: &str| text(response.headers(), name);
            match header(DELIVERS).as_deref() {
                Some("hec") => {
                    Err(self.client.settings("its rule delivers events to Splunk instead of objects"))
                }
                Some("caller") if !self.has_store => Err(self.client.settings(NO_STORE)),
                Some("url") => Err(self
                    .client
                    .settings("its rule delivers to presigned URLs, which this service does not create")),
                Some(_) => Ok(()),
                None => Err(self.client.unexpected(response.status())),
            }
        };
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(PROBE_TIMEOUT, probe).await;
            answered.unwrap_or_else(|_| Err(self.client.timed_out(PROBE_TIMEOUT)))
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
        let checked = self.check_size(&call).and_then(|()| self.headers(&call));
        let headers = match checked {
            Ok(headers) => headers,
            Err(error) => return Some(Err(error)),
        };
        let body = Bytes::from(call.logs.compressed);
        let expected = Expected { rows: call.logs.rows, key: call.key };
        let (mut retries, mut is_alone) = (0, false);
        loop {
            let request = self.client.post().headers(headers.clone()).body(body.clone());
            let answered = self.runtime.block_on(async {
                let answer = async {
                    let _turn = self.fleet.turn(is_alone).await;
                    self.answer(request, &call.task, &expected, sink).await
                };
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
            let is_soon = matches!(error.retry, Retry::Soon | Retry::Alone);
            if !is_soon || retries == RETRIES || delay > MAX_RETRY_DELAY {
                return Some(Err(error));
            }
            retries += 1;
            is_alone = error.retry == Retry::Alone;
            tracing::debug!(url = self.url(), task = call.task, %error, ?delay, is_alone, "retrying the call");
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
        let heads = call.heads.map(|heads| [(HEAD_BEFORE, heads.before), (HEAD, heads.after)]);
        let heads = heads.into_iter().flatten().map(|(name, head)| (name, head.to_string()));
        for (name, value) in fields.into_iter().chain(heads) {
            match HeaderValue::from_bytes(value.as_bytes()) {
                Ok(value) => headers.insert(name, value),
                Err(_) => {
                    return Err(self.client.settings(&format!("the header {name} can't contain {value:?}")));
                }
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
        let mut response = self.client.send(request).await?;
        let answered = Instant::now();
        let headers = response.headers().clone();
        let header = |name: &str| text(&headers, name);
        let number = |name: &str| header(name)?.parse::<u64>().ok();
        if header(TASK).as_deref() != Some(task) {
            return Err(self.client.unexpected(response.status()));
        }
        let (rows, key) = (number("x-logship-rows"), header(KEY).unwrap_or_default());
        if rows != Some(expected.rows) || key != expected.key {
            let (made, wanted) = (rows.unwrap_or(0), expected.rows);
            return Err(self.client.settings(&format!(
                "it made the object {key:?} with {made} logs instead of {:?} with {wanted}: its version is not compatible with this one",
                expected.key
            )));
        }
        let status = response.status();
        let (Some(raw_bytes), Some(stored_bytes)) =
            (number("x-logship-raw-bytes"), number("x-logship-stored-bytes"))
        else {
            return Err(self.client.unexpected(status));
        };
        let sha256 = header("x-logship-sha256").filter(|sha256| sha256.len() == 64);
        let stages = header("x-logship-stages").unwrap_or_default();
        let lost = lost_values(header("x-logship-lost").as_deref());
        if header("x-logship-delivered").is_some() {
            let sha256 = sha256.ok_or_else(|| self.client.unexpected(status))?;
            // A connection can be reused only after the end of the answer.
            let body = read_up_to(&mut response, MAX_EMPTY_BODY).await;
            self.record_stall(body.len(), answered);
            return Ok(Answer { raw_bytes, stored_bytes, sha256, stages, lost, object: None });
        }
        let (file, xxh3) = self.download(response, expected.key, sink).await?;
        self.record_stall(file.bytes as usize, answered);
        let matches_headers = match (header("x-logship-xxh3"), sha256) {
            (Some(reported), _) => reported == xxh3,
            // A function of an older version, which ignores `x-logship-digest`.
            (None, Some(reported)) => reported == file.sha256,
            (None, None) => return Err(self.client.unexpected(status)),
        };
        if !matches_headers || file.bytes != stored_bytes {
            let problem =
                format!("the object from {} does not match the size or digest in its headers", self.url());
            return Err(CallError::new(Retry::Soon, problem));
        }
        let sha256 = file.sha256.clone();
        Ok(Answer { raw_bytes, stored_bytes, sha256, stages, lost, object: Some(file) })
    }

    /// Records the time between the head and the end of an answer. Warns if answers stall.
    fn record_stall(&self, body_bytes: usize, answered: Instant) {
        if let Some(time) = self.fleet.stalls.record(body_bytes, answered.elapsed()) {
            tracing::warn!(
                url = self.url(),
                milliseconds = time.as_millis() as u64,
                "answers of the function stall between their head and their end: its host sends them in two segments without TCP_NODELAY. Update the function, or put a proxy that sets TCP_NODELAY in front of it"
            );
        }
    }

    /// Downloads the object in a response's body. Returns it with its XXH3 (128 bits) in hexadecimal.
    async fn download(
        &self,
        mut response: Response,
        key: &str,
        sink: &dyn ObjectSink,
    ) -> Result<(FinishedFile, String), CallError> {
        if !self.has_store {
            return Err(self.client.settings(NO_STORE));
        }
        let disk = |error: &dyn std::fmt::Display| CallError::new(Retry::Later, error.to_string());
        let mut staged: StagedFile = sink.begin(key, 0).map_err(|error| disk(&error))?;
        let mut xxh3 = Xxh3Default::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.client.unreachable(error))? {
            staged.write(&piece).map_err(|error| disk(&error))?;
            xxh3.update(&piece);
        }
        let file = staged.finish(&[]).map_err(|error| disk(&error))?;
        Ok((file, format!("{:032x}", xxh3.digest128())))
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
const HEAD_BEFORE: &str = "x-logship-head-before";
const HEAD: &str = "x-logship-head";

/// Returns the lost values in the header of an answer.
fn lost_values(header: Option<&str>) -> LostValues {
    let mut lost = LostValues::default();
    if let Some(told) = header.and_then(|header| serde_json::from_str(header).ok()) {
        // Bounds the number of columns.
        lost.merge(told);
    }
    lost
}

/// Returns the limits of calls in the description of a rule. Functions of older versions have none.
fn limits(headers: &HeaderMap) -> Option<ListLimits> {
    let number = |name: &str| text(headers, name)?.parse().ok();
    Some(ListLimits {
        compressed: number("x-logship-max-body-bytes")?,
        raw: number("x-logship-max-raw-bytes")?,
    })
}

/// Returns when the call is cancelled.
async fn cancelled(is_cancelled: &impl Fn() -> bool) {
    while !is_cancelled() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
