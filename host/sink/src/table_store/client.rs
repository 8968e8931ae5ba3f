//! Signed requests to an instance, and checked answers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use logship_config::table_store::TableStoreConfig;
use reqwest::{Response, Url};

use super::error::{Class, TableStoreError};
use super::message::{self, ErrorMessage};
use super::signature::{Signed, SigningTime, sign};
use crate::http::error_chain;
use crate::reload::Reloaded;

/// Largest answer, in bytes. An answer to 200 rows has some 20 KB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The deadline of a request and its answer, beyond the timeout of a read.
const DEADLINE: Duration = Duration::from_secs(120);

/// The client of an instance.
pub(super) struct Client {
    config: TableStoreConfig,
    endpoint: Url,
    http: Reloaded<reqwest::Client>,
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) body: Bytes,
    pub(super) request_id: String,
}

impl Client {
    pub(super) fn new(config: TableStoreConfig, endpoint: Url, http: Reloaded<reqwest::Client>) -> Self {
        Self { config, endpoint, http }
    }

    pub(super) fn config(&self) -> &TableStoreConfig {
        &self.config
    }

    /// Calls an operation.
    pub(super) async fn call(&self, operation: &str, body: Bytes) -> Result<Answer, TableStoreError> {
        let path = format!("/{operation}");
        let signed = sign(&self.config, &path, &body, signing_time(SystemTime::now().into()));
        let mut url = self.endpoint.clone();
        url.set_path(&path);
        let mut request = self.http.get().post(url).body(body).timeout(DEADLINE);
        for (name, value) in &signed.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(error_chain).map_err(TableStoreError::unclear)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = read_body(response).await.map_err(TableStoreError::unclear)?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text("x-ots-requestid").unwrap_or_default().to_owned();
        if !(200..300).contains(&status) {
            // An HTML page of a load balancer is no message.
            let error = message::error_message(&body).ok().filter(is_error).unwrap_or_default();
            return Err(TableStoreError::answered(status, error, &request_id));
        }
        let texts = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        check_signature(&signed, &path, texts, &body)?;
        Ok(Answer { body, request_id })
    }
}

/// Returns true for an error of Table Store.
fn is_error(error: &ErrorMessage) -> bool {
    error.code.starts_with("OTS")
}

/// An answer that Table Store did not sign is somebody else's, or damaged.
fn check_signature<'a>(
    signed: &Signed,
    path: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> Result<(), TableStoreError> {
    if signed.is_genuine(path, headers, body) {
        return Ok(());
    }
    let problem = "the signature or the digest of the answer is wrong: something between changes answers";
    Err(TableStoreError::new(Class::Unclear, problem))
}

fn signing_time(now: DateTime<Utc>) -> SigningTime {
    SigningTime {
        date: now.format("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
        day: now.format("%Y%m%d").to_string(),
    }
}

/// Returns an answer's body.
async fn read_body(mut response: Response) -> Result<Bytes, String> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(error_chain)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("the answer has more than {MAX_ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}
