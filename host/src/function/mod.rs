//! A function that makes objects out of batches which it is called with: docs/serverless.md has the calls.
//!
//! It does what the stages of this program do, somewhere else, and it brings the object to its place itself or gives
//! it back. What the object has to be like goes with each call, its key too: a function that would make another one
//! says so, and makes none. A call can be repeated, and is, until it is answered.
//!
//! # Layout
//! - This file: [`Function`], which calls. `config`: its settings. `error`: what a call may come to instead of an object.

mod config;
mod error;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::Xxh3Default;

pub use self::config::FunctionConfig;
pub(crate) use self::config::MOST;
pub use self::error::CallError;
use self::error::{Again, again, code};

use crate::bucket::{Remote, client};
use crate::destination::{Destination, DestinationError};
use crate::group_list::{GroupList, Most};
use crate::part::{Part, Whole};
use crate::pipeline::Pipeline;
use crate::rule::Rule;

/// A function, for a rule. Its methods block.
#[derive(Debug)]
pub struct Function {
    http: reqwest::Client,
    url: Url,
    authorization: Option<HeaderValue>,
    store: Option<Box<Destination>>,
    runtime: Handle,
    most: usize,
    silence: Duration,
}

/// A call of a function.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The task's id.
    pub(crate) task: String,
    /// The key of its object.
    pub(crate) key: &'a str,
    /// The shard that the logs are of.
    pub(crate) shard: u32,
    /// The cursors of the logs.
    pub(crate) range: String,
    /// The project of the logstore.
    pub(crate) project: &'a str,
    /// The logstore.
    pub(crate) logstore: &'a str,
    /// What the object is to be like.
    pub(crate) spec: &'a str,
    /// The logs.
    pub(crate) logs: GroupList,
}

/// What a function made of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Bytes before compression.
    pub(crate) raw_bytes: u64,
    /// Bytes of the object.
    pub(crate) stored_bytes: u64,
    /// SHA-256 of the object, in hexadecimal.
    pub(crate) sha256: String,
    /// The stages that made it: name and version of each.
    pub(crate) stages: String,
    /// The object, if it is not at its destination.
    pub(crate) object: Option<Whole>,
}

/// How often a call is repeated before its task has failed, which is tried again much later.
const RETRIES: u32 = 2;

/// How long to wait before it is: twice as long each time.
const PAUSE: Duration = Duration::from_millis(500);

/// A function that asks for more rest than this is called again by another attempt of the task.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often it is looked whether the wait is to end.
const LOOK: Duration = Duration::from_millis(100);

/// How long a rule that is made waits for its function.
const PROBE: Duration = Duration::from_secs(30);

/// Bytes of an answer that is no object.
const LARGEST_PROBLEM: usize = 64 << 10;

/// Characters of an answer that tells nothing of itself which are shown.
const LONGEST_WORDS: usize = 300;

impl Function {
    /// The function that a rule calls. `store` has the objects.
    ///
    /// # Errors
    /// When the settings are wrong.
    pub(crate) fn new(
        config: &FunctionConfig,
        rule: &str,
        store: Option<Destination>,
        runtime: Handle,
    ) -> Result<Self, DestinationError> {
        let authorization = match &config.token {
            None => None,
            Some(token) => {
                let wrong = |_| DestinationError::Settings("token: has characters that no token has".into());
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(wrong)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let way = Remote {
            proxy: config.proxy.clone(),
            ca: config.ca.clone(),
            timeout_seconds: Some(config.timeout_seconds),
            ..Remote::default()
        };
        Ok(Self {
            http: client(&way)?,
            url: config.endpoint(rule).map_err(DestinationError::Settings)?,
            authorization,
            store: store.map(Box::new),
            runtime,
            most: config.body_bytes,
            silence: Duration::from_secs(config.timeout_seconds),
        })
    }

    /// Where the objects are, if that is known.
    ///
    /// # Errors
    /// [`DestinationError::Unseen`].
    pub(crate) fn store(&self) -> Result<&Destination, DestinationError> {
        self.store.as_deref().ok_or_else(|| DestinationError::Unseen(self.url.to_string()))
    }

    /// Bytes that the logs of a call may have.
    pub(crate) fn most(&self) -> Most {
        Most { packed: self.most, ..MOST }
    }

    /// Asks whether the function would make such objects.
    ///
    /// # Errors
    /// When it would not, or is not there.
    pub(crate) fn probe(&self, spec: &str) -> Result<(), CallError> {
        let asked = async {
            let request = self.http.get(self.url.clone()).header(SPEC, spec);
            let response = self.sent(request).await?;
            let says = |name: &str| text(response.headers(), name);
            match says(DELIVERS).as_deref() {
                Some("hec") => Err(self.settings("its rule delivers events to Splunk, and not objects")),
                Some("caller") if self.store.is_none() => Err(self.settings(GIVEN_BACK)),
                Some("url") => {
                    Err(self.settings("its rule delivers to presigned URLs, which are not made here"))
                }
                Some(_) => Ok(()),
                None => Err(self.stranger(response.status())),
            }
        };
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(PROBE, asked).await;
            answered.unwrap_or_else(|_| Err(self.silent(PROBE)))
        })
    }

    /// Has the object of a call made, and brought to its place or into `part`, which is made for it. Waits, and calls again,
    /// as long as that can help soon and `is_over` does not say that nothing is waited for any more: then there is no
    /// answer.
    ///
    /// # Errors
    /// When there is no object, or nothing was heard of it.
    pub(crate) fn call(
        &self,
        call: Call<'_>,
        is_over: impl Fn() -> bool,
    ) -> Option<Result<Answer, CallError>> {
        let body = Bytes::from(call.logs.packed);
        let facts = Facts { rows: call.logs.rows, key: call.key };
        let mut headers = HeaderMap::new();
        let shown = [
            (TASK, call.task.clone()),
            (KEY, call.key.to_owned()),
            (SPEC, call.spec.to_owned()),
            ("x-logship-shard", call.shard.to_string()),
            ("x-logship-range", call.range),
            ("x-logship-project", call.project.to_owned()),
            ("x-logship-logstore", call.logstore.to_owned()),
            ("x-log-bodyrawsize", call.logs.raw_bytes.to_string()),
            // What comes back gets its SHA-256 here, where there are instructions for it.
            ("x-logship-digest", "xxh3".to_owned()),
        ];
        for (name, value) in shown {
            match HeaderValue::from_bytes(value.as_bytes()) {
                Ok(value) => headers.insert(name, value),
                Err(_) => return Some(Err(self.settings(&format!("{name} can't be {value:?}")))),
            };
        }
        headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf; message=LogGroupList"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("lz4"));
        let mut tries = 0;
        loop {
            let request = self.http.post(self.url.clone()).headers(headers.clone()).body(body.clone());
            let answered = self.runtime.block_on(async {
                let answer = self.answered(request, &call.task, &facts);
                tokio::select! {
                    answer = answer => Some(answer),
                    () = until(&is_over) => None,
                }
            })?;
            let error = match answered {
                Ok(answer) => return Some(Ok(answer)),
                Err(error) => error,
            };
            let pause = error.rest.unwrap_or_default().max(PAUSE * 2_u32.pow(tries));
            if error.again != Again::Soon || tries == RETRIES || pause > LONGEST_PAUSE {
                return Some(Err(error));
            }
            tries += 1;
            tracing::debug!(url = %self.url, task = call.task, %error, ?pause, "called again");
            // Not all at the same time.
            let pause = pause.mul_f64(1.0 + fastrand::f64() / 2.0);
            let rested = async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => true,
                    () = until(&is_over) => false,
                }
            };
            if !self.runtime.block_on(rested) {
                return None;
            }
        }
    }

    async fn answered(
        &self,
        request: RequestBuilder,
        task: &str,
        facts: &Facts<'_>,
    ) -> Result<Answer, CallError> {
        let response = self.sent(request).await?;
        let headers = response.headers().clone();
        let says = |name: &str| text(&headers, name);
        let number = |name: &str| says(name)?.parse::<u64>().ok();
        if says(TASK).as_deref() != Some(task) {
            return Err(self.stranger(response.status()));
        }
        let (rows, key) = (number("x-logship-rows"), says(KEY).unwrap_or_default());
        if rows != Some(facts.rows) || key != facts.key {
            let (made, wanted) = (rows.unwrap_or(0), facts.rows);
            return Err(self.settings(&format!(
                "it made an object {key:?} of {made} logs, and not {:?} of {wanted}: it is of another version, and does not know what it is asked for",
                facts.key
            )));
        }
        let status = response.status();
        let (Some(raw_bytes), Some(stored_bytes)) =
            (number("x-logship-raw-bytes"), number("x-logship-stored-bytes"))
        else {
            return Err(self.stranger(status));
        };
        let sha256 = says("x-logship-sha256").filter(|sha256| sha256.len() == 64);
        let stages = says("x-logship-stages").unwrap_or_default();
        if says("x-logship-delivered").is_some() {
            let sha256 = sha256.ok_or_else(|| self.stranger(status))?;
            return Ok(Answer { raw_bytes, stored_bytes, sha256, stages, object: None });
        }
        let (whole, xxh3) = self.received(response, facts.key).await?;
        let is_as_told = match (says("x-logship-xxh3"), sha256) {
            (Some(told), _) => told == xxh3,
            // A function that does not know what it is asked for.
            (None, Some(told)) => told == whole.sha256,
            (None, None) => return Err(self.stranger(status)),
        };
        if !is_as_told || whole.bytes != stored_bytes {
            let problem = format!("the object that {} gave back is not what it says", self.url);
            return Err(CallError::new(Again::Soon, problem));
        }
        let sha256 = whole.sha256.clone();
        Ok(Answer { raw_bytes, stored_bytes, sha256, stages, object: Some(whole) })
    }

    /// The object that is the body of an answer, as it comes, and its XXH3 of 128 bits in hexadecimal.
    async fn received(&self, mut response: Response, key: &str) -> Result<(Whole, String), CallError> {
        let store = self.store().map_err(|_| self.settings(GIVEN_BACK))?;
        let disk = |error: &dyn std::fmt::Display| CallError::new(Again::Later, error.to_string());
        let mut part: Part = store.begin(key, 0).map_err(|error| disk(&error))?;
        let mut xxh3 = Xxh3Default::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            part.write(&piece).map_err(|error| disk(&error))?;
            xxh3.update(&piece);
        }
        let whole = part.finish(&[]).map_err(|error| disk(&error))?;
        Ok((whole, format!("{:032x}", xxh3.digest128())))
    }

    /// Sends a request, whose answer has to be that all is well.
    async fn sent(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    fn unreachable(&self, error: reqwest::Error) -> CallError {
        if error.is_timeout() && !error.is_connect() {
            return self.silent(self.silence);
        }
        let error = error.without_url();
        let mut words = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            words = format!("{words}: {cause}");
            source = cause.source();
        }
        CallError::new(Again::Soon, format!("{} is not reached: {words}", self.url))
    }

    /// It may be at work still: it is not called again at once.
    fn silent(&self, time: Duration) -> CallError {
        let problem = format!("{} did not answer within {} seconds", self.url, time.as_secs());
        CallError::new(Again::Later, problem)
    }

    /// What an answer means that is no success.
    async fn problem(&self, mut response: Response) -> CallError {
        let status = response.status();
        let rest = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body: Vec<u8> = vec![];
        while body.len() < LARGEST_PROBLEM
            && let Ok(Some(piece)) = response.chunk().await
        {
            body.extend_from_slice(&piece);
        }
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let kind = told["type"].as_str().and_then(|kind| kind.rsplit_once(':')).map_or("", |(_, kind)| kind);
        let said = match told["detail"].as_str() {
            Some(detail) => format!("{status} ({kind}): {detail}"),
            None => {
                let words = String::from_utf8_lossy(&body);
                format!("{status}: {}", words.trim().chars().take(LONGEST_WORDS).collect::<String>())
            }
        };
        CallError {
            message: format!("{} answered {said}", self.url),
            code: code(status, kind),
            again: again(status),
            rest: rest.map(Duration::from_secs),
            is_too_large: status == StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// A page of something between, perhaps.
    fn stranger(&self, status: StatusCode) -> CallError {
        let problem = format!("{} answered {status}, but not as a function of logship does", self.url);
        CallError::new(Again::Later, problem)
    }

    fn settings(&self, problem: &str) -> CallError {
        CallError::new(Again::Later, format!("{}: {problem}", self.url))
    }
}

const GIVEN_BACK: &str = "its rule gives objects back, and there is nowhere to put them: say `deliver` in that rule, or name a `store` in the destination";

/// What an answer has to tell of the call.
struct Facts<'a> {
    rows: u64,
    key: &'a str,
}

const TASK: &str = "x-logship-task";
const KEY: &str = "x-logship-key";
const SPEC: &str = "x-logship-rule";
const DELIVERS: &str = "x-logship-delivers";

/// Returns when it is over.
async fn until(is_over: &impl Fn() -> bool) {
    while !is_over() {
        tokio::time::sleep(LOOK).await;
    }
}

/// A header. Keys of objects may have any letters.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?.to_owned())
}

/// What the objects of a rule are like, for a call: all that decides their keys and bytes. JSON that a header takes.
pub(crate) fn spec(rule: &Rule, pipeline: &Pipeline) -> String {
    let (format, compression) = pipeline.makes();
    let mut formatted = json!(rule.format.settings);
    formatted["type"] = format.into();
    let mut compressed = json!(rule.compression.settings);
    compressed["type"] = compression.unwrap_or(&rule.compression.name).into();
    let spec = json!({
        "prefix": rule.prefix,
        "partition": rule.partition,
        "time_zone": rule.time_zone,
        "format": formatted,
        "compression": compressed,
        "path": rule.path,
    });
    let mut ascii = String::new();
    for letter in spec.to_string().chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}
