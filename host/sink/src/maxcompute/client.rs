//! Requests to the service and to the Tunnel server: addresses, signatures, retries.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream;
use logship_config::maxcompute::{BlockCompression, MaxComputeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::error::{Class, MaxComputeError};
use super::keys::KeyProvider;
use super::retry::Retries;
use super::signer::Signed;
use crate::http::error_chain;
use crate::reload::Reloaded;

/// Bytes of paths and query values that stand for themselves.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Largest answer, in bytes. Schemas of wide tables have some hundred kilobytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Bytes of a block that are sent at once.
const FRAME_BYTES: usize = 256 << 10;

/// The headers of all requests to Tunnel.
const TUNNEL_HEADERS: [(&str, &str); 3] = [
    ("x-odps-tunnel-version", "6"),
    ("odps-tunnel-date-transform", "v1"),
    ("odps-tunnel-sdk-support-schema-evolution", "true"),
];

/// The client of a project.
pub(super) struct Client {
    pub(super) project: String,
    schema: Option<String>,
    region: Option<String>,
    pub(super) quota: Option<String>,
    pub(super) compression: Option<BlockCompression>,
    http: Reloaded<reqwest::Client>,
    keys: KeyProvider,
    endpoint: Url,
    /// The Tunnel server of the settings.
    fixed_tunnel: Option<Url>,
    /// The Tunnel server that the service named.
    found_tunnel: Mutex<Option<Url>>,
}

/// A server of MaxCompute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// Tables and SQL.
    Service,
    /// Uploads.
    Tunnel,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// What it does, for errors: `commit an upload session`.
    pub(super) step: String,
    pub(super) server: Server,
    pub(super) method: Method,
    /// The path below the endpoint, decoded.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// The request whose answer is read before a retry after a gateway's error.
    pub(super) read_before_retry: Option<Box<Self>>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) request_id: Option<String>,
}

impl Client {
    pub(super) fn new(
        config: &MaxComputeConfig,
        http: Reloaded<reqwest::Client>,
        keys: KeyProvider,
        endpoint: Url,
        fixed_tunnel: Option<Url>,
    ) -> Self {
        Self {
            project: config.project.clone(),
            schema: config.schema.clone(),
            region: config.region.clone(),
            quota: config.quota.clone(),
            compression: config.compression,
            http,
            keys,
            endpoint,
            fixed_tunnel,
            found_tunnel: Mutex::default(),
        }
    }

    /// Returns the path of the project, with `rest` below it.
    pub(super) fn project_path(&self, rest: &str) -> String {
        format!("/projects/{}{rest}", self.project)
    }

    /// Returns the path of a table.
    pub(super) fn table_path(&self, table: &str) -> String {
        match &self.schema {
            Some(schema) => self.project_path(&format!("/schemas/{schema}/tables/{table}")),
            None => self.project_path(&format!("/tables/{table}")),
        }
    }

    /// Returns a request.
    pub(super) fn request(&self, step: String, server: Server, method: Method, path: String) -> Call {
        let mut query = vec![("curr_project", self.project.clone())];
        query.extend(self.schema.clone().map(|schema| ("curr_schema", schema)));
        let headers = match server {
            Server::Tunnel => TUNNEL_HEADERS.map(|(name, value)| (name, value.to_owned())).to_vec(),
            Server::Service => vec![],
        };
        Call { step, server, method, path, query, headers, body: Bytes::new(), read_before_retry: None }
    }

    /// Sends a request, and retries it as long as that may help.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, MaxComputeError> {
        let (mut retries, mut index, trace) = (Retries::default(), 0, trace_id());
        loop {
            let error = match self.once(call, Some((&trace, index))).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(delay) = retries.next(&error) else { return Err(error) };
            tracing::debug!(%error, ?delay, "retrying a request to MaxCompute");
            tokio::time::sleep(delay).await;
            index += 1;
            if let (Some(502 | 504), Some(read)) = (error.status, &call.read_before_retry)
                && let Err(error) = Box::pin(self.once(read, None)).await
                && !matches!(error.class(), Class::Retry | Class::Wait)
            {
                return Err(error);
            }
        }
    }

    /// Sends a request once. `attempt` is the trace of its attempts, and this one's number.
    pub(super) async fn once(
        &self,
        call: &Call,
        attempt: Option<(&str, u32)>,
    ) -> Result<Answer, MaxComputeError> {
        let base = match call.server {
            Server::Service => self.endpoint.clone(),
            Server::Tunnel => Box::pin(self.tunnel()).await?,
        };
        let result = self.send(call, &base, attempt).await;
        if let (Server::Tunnel, Err(error)) = (call.server, &result)
            && error.status.is_none()
        {
            // The server may have moved.
            *lock(&self.found_tunnel) = None;
        }
        result
    }

    async fn send(
        &self,
        call: &Call,
        base: &Url,
        attempt: Option<(&str, u32)>,
    ) -> Result<Answer, MaxComputeError> {
        let (step, key) = (&call.step, self.keys.get().await?);
        let now = DateTime::<Utc>::from(SystemTime::now());
        let mut headers = call.headers.clone();
        headers.push(("date", now.format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
        if let (Server::Tunnel, Some((trace, index))) = (call.server, attempt) {
            headers.push(("odps-tunnel-retry-trace-id", trace.to_owned()));
            headers.push(("odps-tunnel-retry-index", index.to_string()));
        }
        let signed =
            Signed { method: call.method.as_str(), path: &call.path, query: &call.query, headers: &headers };
        let date = now.format("%Y%m%d").to_string();
        let authorization = signed.authorization(&key, self.region.as_deref(), &date);
        headers.push(("authorization", authorization));
        headers.extend(key.security_token.map(|token| ("authorization-sts-token", token)));
        let mut request = self.http.get().request(call.method.clone(), url(base, call)?);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // Blocks are sent in chunks, as by the vendor's clients.
        let body = match call.body.is_empty() {
            true => reqwest::Body::from(""),
            false if call.server == Server::Tunnel => chunked(call.body.clone()),
            false => reqwest::Body::from(call.body.clone()),
        };
        let lost = |error| MaxComputeError::lost(step, format!("{base}: {}", error_chain(error)));
        let mut response = request.body(body).send().await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let request_id = headers.get("x-odps-request-id").and_then(|id| Some(id.to_str().ok()?.to_owned()));
        let mut body = vec![];
        while let Some(part) = response.chunk().await.map_err(lost)? {
            body.extend_from_slice(&part);
            if body.len() > MAX_ANSWER_BYTES {
                let problem = format!("an answer of more than {MAX_ANSWER_BYTES} bytes");
                return Err(MaxComputeError::new(step, Class::Rejected, problem));
            }
        }
        if !status.is_success() {
            return Err(MaxComputeError::answer(step, status.as_u16(), request_id, &body));
        }
        Ok(Answer { headers, body: body.into(), request_id })
    }

    /// Returns the address of the Tunnel server. Asks the service for it, if the settings don't name it.
    pub(super) async fn tunnel(&self) -> Result<Url, MaxComputeError> {
        let known = self.fixed_tunnel.clone().or_else(|| lock(&self.found_tunnel).clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let step = format!("find the Tunnel server of project {}", self.project);
        let path = self.project_path("/tunnel");
        let mut call = self.request(step, Server::Service, Method::GET, path);
        call.query.push(("service", String::new()));
        call.query.extend(self.quota.clone().map(|quota| ("quotaName", quota)));
        let answer = self.once(&call, None).await?;
        let host = String::from_utf8_lossy(&answer.body).trim().to_owned();
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let found = Some(&host).filter(|host| !host.is_empty() && host.bytes().all(is_host));
        let found = found.and_then(|host| Url::parse(&format!("{}://{host}", self.endpoint.scheme())).ok());
        let Some(found) = found else {
            let problem = "the service's answer is no address: set tunnel-endpoint";
            return Err(MaxComputeError::new(&call.step, Class::Configuration, problem));
        };
        *lock(&self.found_tunnel) = Some(found.clone());
        Ok(found)
    }
}

impl Call {
    /// Parses the JSON of an answer.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(
        &self,
        answer: &Answer,
    ) -> Result<T, MaxComputeError> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            let mut error = MaxComputeError::lost(&self.step, format!("can't read the answer: {error}"));
            error.request_id.clone_from(&answer.request_id);
            error
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a new ID of a request's attempts.
fn trace_id() -> String {
    let number = fastrand::u128(..);
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn url(base: &Url, call: &Call) -> Result<Url, MaxComputeError> {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let path: Vec<_> = call.path.split('/').map(encoded).collect();
    let parameter = |(name, value): &(&str, String)| match value.as_str() {
        "" => (*name).to_owned(),
        value => format!("{name}={}", encoded(value)),
    };
    let query: Vec<_> = call.query.iter().map(parameter).collect();
    let base = base.as_str().trim_end_matches('/');
    let text = format!("{base}{}?{}", path.join("/"), query.join("&"));
    Url::parse(&text).map_err(|error| MaxComputeError::new(&call.step, Class::Configuration, error))
}

/// Returns a body without a length, which makes chunks.
fn chunked(mut body: Bytes) -> reqwest::Body {
    let next = move || {
        let size = body.len().min(FRAME_BYTES);
        (size > 0).then(|| Ok::<_, Infallible>(body.split_to(size)))
    };
    reqwest::Body::wrap_stream(stream::iter(std::iter::from_fn(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_look_like_uuids_and_differ() {
        let id = trace_id();
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(id, trace_id());
    }
}
