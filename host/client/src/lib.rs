//! A client of the Log Service API: of a logship service, Log Service itself, or a compatible service.

mod error;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logship_sls::compression::Compression;
use logship_sls::cursor::Cursor;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::header::{FIRST_POSITION_HEADER, PUT_ID_HEADER, SIGNED_HOST_HEADER};
use logship_sls::query;
use logship_sls::signature::{AccessKey, Request, v1, v4};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::ClientError;

/// A service's URL, and the client's credentials.
#[derive(Clone)]
pub struct Endpoint {
    /// The service's URL, without a path: `https://cn-hangzhou.log.aliyuncs.com`.
    pub url: Url,
    /// The access key ID.
    pub key_id: String,
    /// The access key secret.
    pub secret: String,
    /// The security token of a temporary access key.
    pub token: Option<String>,
    /// The region. If set, requests are signed by version 4.
    pub region: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = formatter.debug_struct("Endpoint");
        output.field("url", &self.url.as_str()).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A client of one project.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    project: String,
    http: reqwest::Client,
    max_reply: usize,
    quotes_answers: bool,
}

/// A request to send.
struct Call<'a> {
    method: Method,
    path: String,
    query: &'a [(&'a str, &'a str)],
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// The log groups of a pull.
#[derive(Debug)]
pub struct Pulled {
    /// A LogGroupList.
    pub list: Vec<u8>,
    /// The cursor of the next pull.
    pub next: Cursor,
    /// Number of groups.
    pub groups: usize,
    /// The position of the first group, if the service returns it.
    pub first_position: Option<u64>,
}

/// The largest number of groups in a pull.
pub const MAX_GROUPS: usize = 1000;

/// The timeout of a request, the same as the SDKs'.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Client {
    /// Creates a client of `project`.
    ///
    /// # Errors
    /// Fails if the HTTP client can't be created.
    pub fn new(endpoint: Endpoint, project: &str) -> Result<Self, ClientError> {
        // Fails if a provider is installed already, which is of the same kind.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        // The service never redirects, and no other host may receive the signed headers.
        let http =
            reqwest::Client::builder().timeout(TIMEOUT).tcp_nodelay(true).redirect(Policy::none()).build();
        let http =
            http.map_err(|source| ClientError::Connection { url: endpoint.url.to_string(), source })?;
        Ok(Self { endpoint, project: project.into(), http, max_reply: MAX_REPLY_BYTES, quotes_answers: true })
    }

    /// Limits the bytes of a reply: a server that others chose could send any number.
    #[must_use]
    pub fn with_max_reply(self, bytes: usize) -> Self {
        Self { max_reply: bytes, ..self }
    }

    /// Keeps the answers of servers that are not of Log Service out of errors: a server that others chose could be one
    /// that they can't reach themselves.
    #[must_use]
    pub fn without_answers(self) -> Self {
        Self { quotes_answers: false, ..self }
    }

    /// Sends a GET request, and parses the reply as JSON.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let call = Call { method: Method::GET, path: path.into(), query, headers: vec![], body: vec![] };
        self.parse_json(self.send(call).await?.1)
    }

    /// Sends a GET request, and returns the reply's bytes.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let call = Call { method: Method::GET, path: path.into(), query: &[], headers: vec![], body: vec![] };
        Ok(self.send(call).await?.1)
    }

    /// Sends a JSON body, and parses the reply as JSON. Returns null for an empty reply.
    pub async fn send_json(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.send_json_with(method, path, query, vec![], body).await
    }

    /// Sends a JSON body with additional headers.
    pub async fn send_json_with(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        mut headers: Vec<(&'static str, String)>,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let mut bytes = vec![];
        if !body.is_null() {
            bytes = body.to_string().into_bytes();
            headers.push(("content-type", "application/json".into()));
        }
        headers.push(("x-log-bodyrawsize", bytes.len().to_string()));
        let call = Call { method, path: path.into(), query, headers, body: bytes };
        let (_, reply) = self.send(call).await?;
        if reply.is_empty() { Ok(Value::Null) } else { self.parse_json(reply) }
    }

    /// Sends bytes, and parses the reply as JSON.
    pub async fn send_bytes(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, ClientError> {
        let headers =
            vec![("content-type", content_type.to_owned()), ("x-log-bodyrawsize", body.len().to_string())];
        self.parse_json(
            self.send(Call { method: Method::POST, path: path.into(), query, headers, body }).await?.1,
        )
    }

    /// Puts a protobuf log group.
    pub async fn put(&self, logstore: &str, group: &[u8], hash_key: Option<&str>) -> Result<(), ClientError> {
        self.put_with(logstore, group, hash_key, None).await
    }

    /// Puts a protobuf log group with an id, `CLIENT:SEQUENCE`. A logship service stores a repeated put once; other
    /// services ignore the id.
    pub async fn put_once(
        &self,
        logstore: &str,
        group: &[u8],
        hash_key: Option<&str>,
        id: &str,
    ) -> Result<(), ClientError> {
        self.put_with(logstore, group, hash_key, Some(id)).await
    }

    async fn put_with(
        &self,
        logstore: &str,
        group: &[u8],
        hash_key: Option<&str>,
        id: Option<&str>,
    ) -> Result<(), ClientError> {
        let compressed = Compression::Lz4.compress(group).map_err(ApiError::from)?;
        let key = hash_key.map(|key| ("key", key));
        let route = if key.is_some() { "route" } else { "lb" };
        let mut headers = vec![
            ("content-type", "application/x-protobuf".into()),
            ("x-log-bodyrawsize", group.len().to_string()),
            ("x-log-compresstype", "lz4".into()),
        ];
        headers.extend(id.map(|id| (PUT_ID_HEADER, id.to_owned())));
        let path = format!("/logstores/{logstore}/shards/{route}");
        let call = Call { method: Method::POST, path, query: key.as_slice(), headers, body: compressed };
        self.send(call).await.map(drop)
    }

    /// Returns the cursor of `from`: `begin`, `end` or a Unix time.
    pub async fn cursor(&self, logstore: &str, shard: u32, from: &str) -> Result<Cursor, ClientError> {
        let path = format!("/logstores/{logstore}/shards/{shard}");
        let reply: Value = self.get(&path, &[("type", "cursor"), ("from", from)]).await?;
        let cursor = reply["cursor"].as_str().unwrap_or_default();
        Cursor::decode(cursor).map_err(|error| self.invalid_reply(200, &error.to_string()))
    }

    /// Pulls log groups from a cursor on. A logship service waits up to `wait` seconds for the first group.
    pub async fn pull(
        &self,
        logstore: &str,
        shard: u32,
        from: Cursor,
        wait: u32,
    ) -> Result<Pulled, ClientError> {
        self.pull_some(logstore, shard, (from, None), MAX_GROUPS, wait).await
    }

    /// Pulls up to `count` log groups from a cursor on, without waiting.
    pub async fn pull_groups(
        &self,
        logstore: &str,
        shard: u32,
        from: Cursor,
        count: usize,
    ) -> Result<Pulled, ClientError> {
        self.pull_some(logstore, shard, (from, None), count, 0).await
    }

    /// Pulls up to `count` log groups from a cursor to another one, exclusive, without waiting.
    pub async fn pull_range(
        &self,
        logstore: &str,
        shard: u32,
        (from, end): (Cursor, Cursor),
        count: usize,
    ) -> Result<Pulled, ClientError> {
        self.pull_some(logstore, shard, (from, Some(end)), count, 0).await
    }

    async fn pull_some(
        &self,
        logstore: &str,
        shard: u32,
        (from, end): (Cursor, Option<Cursor>),
        count: usize,
        wait: u32,
    ) -> Result<Pulled, ClientError> {
        let (cursor, waited, count) = (from.encode(), wait.to_string(), count.to_string());
        let end = end.map(|end| end.encode());
        let mut query = vec![("type", "log"), ("cursor", &*cursor), ("count", &*count)];
        query.extend(end.as_deref().map(|end| ("end_cursor", end)));
        // Log Service itself doesn't support `wait`.
        query.extend((wait > 0).then_some(("wait", &*waited)));
        let call = Call {
            method: Method::GET,
            path: format!("/logstores/{logstore}/shards/{shard}"),
            query: &query,
            headers: vec![("accept-encoding", "lz4".into()), ("accept", "application/x-protobuf".into())],
            body: vec![],
        };
        let (headers, body) = self.send(call).await?;
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| self.invalid_reply(200, &format!("the header {name} is missing")))
        };
        let number = |name: &str| {
            let invalid = |_| self.invalid_reply(200, &format!("the header {name} is not a number"));
            header(name)?.parse::<usize>().map_err(invalid)
        };
        let (groups, size) = (number("x-log-count")?, number("x-log-bodyrawsize")?);
        let compression = Compression::from_header(header("x-log-compresstype").unwrap_or_default());
        let list = match compression.map_err(ApiError::from)? {
            Compression::None => body,
            other => {
                other.decompress(&body, size, MAX_PULL_BYTES.min(self.max_reply)).map_err(ApiError::from)?
            }
        };
        let next = Cursor::decode(header("x-log-cursor")?).map_err(ApiError::from)?;
        let first_position = header(FIRST_POSITION_HEADER).ok().and_then(|first| first.parse().ok());
        Ok(Pulled { list, next, groups, first_position })
    }

    /// Signs and sends a request, and returns the headers and the body of a successful reply.
    async fn send(&self, call: Call<'_>) -> Result<(HeaderMap, Vec<u8>), ClientError> {
        let (url, host) = self.address(&call)?;
        let headers = self.signed_headers(&call, &host);
        let request = self.http.request(call.method, url).headers(headers).body(call.body);
        let failed = |source: reqwest::Error| ClientError::Connection {
            url: self.endpoint.url.to_string(),
            source: source.without_url(),
        };
        let mut reply = request.send().await.map_err(failed)?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let mut body = vec![];
        while let Some(part) = reply.chunk().await.map_err(failed)? {
            if body.len() + part.len() > self.max_reply {
                let message = format!("the reply has more than {} bytes", self.max_reply);
                return Err(self.invalid_reply(status.as_u16(), &message));
            }
            body.extend_from_slice(&part);
        }
        if status.as_u16() == 200 {
            return Ok((headers, body));
        }
        Err(match ApiError::from_json(&body) {
            Some(error) if self.quotes_answers || !matches!(error.code, ErrorCode::Other(_)) => error.into(),
            _ if self.quotes_answers => {
                self.invalid_reply(status.as_u16(), &String::from_utf8_lossy(&body[..body.len().min(200)]))
            }
            _ => self.invalid_reply(status.as_u16(), "it is not shown"),
        })
    }

    /// Returns the URL to connect to, and the `Host` header. The project is a subdomain of the endpoint's host. For an
    /// IP address or localhost, only the header includes the project.
    fn address(&self, call: &Call<'_>) -> Result<(Url, String), ClientError> {
        let mut url = self.endpoint.url.clone();
        let name = url.host_str().unwrap_or_default().to_owned();
        let host = if self.project.is_empty() { name.clone() } else { format!("{}.{name}", self.project) };
        let direct = name == "localhost" || url.domain().is_none();
        if !direct {
            url.set_host(Some(&host))
                .map_err(|error| self.invalid_reply(0, &format!("{host:?} is not a valid host: {error}")))?;
        }
        url.set_path(&call.path);
        let query = query::encode(call.query);
        url.set_query((!query.is_empty()).then_some(&query));
        Ok((url, host))
    }

    fn signed_headers(&self, call: &Call<'_>, host: &str) -> HeaderMap {
        let mut headers = vec![("host", host.to_owned()), ("x-log-apiversion", "0.6.0".into())];
        if self.endpoint.region.is_none() {
            // Version 1 does not sign the host otherwise.
            headers.push((SIGNED_HOST_HEADER, host.to_owned()));
        }
        headers.extend(call.headers.iter().cloned());
        headers.extend(self.endpoint.token.clone().map(|token| ("x-acs-security-token", token)));
        let query: Vec<_> =
            call.query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let borrowed: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = Request {
            method: call.method.as_str(),
            path: &call.path,
            query: &query,
            headers: &borrowed,
            body: &call.body,
        };
        let key = AccessKey { id: &self.endpoint.key_id, secret: &self.endpoint.secret };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let added = match &self.endpoint.region {
            None => v1::sign(&key, &request, now),
            Some(region) => v4::sign(&key, region, &request, now),
        };
        let all = headers.into_iter().chain(added);
        all.filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        })
        .collect()
    }

    fn parse_json<T: DeserializeOwned>(&self, body: Vec<u8>) -> Result<T, ClientError> {
        serde_json::from_slice(&body).map_err(|error| self.invalid_reply(200, &error.to_string()))
    }

    /// Creates an error for an invalid reply.
    pub fn invalid_reply(&self, status: u16, message: &str) -> ClientError {
        ClientError::Reply { url: self.endpoint.url.to_string(), status, message: message.into() }
    }
}

/// The largest reply, in bytes.
const MAX_REPLY_BYTES: usize = MAX_PULL_BYTES + (64 << 20);

/// The largest uncompressed size of a pull, in bytes. Services send some MB, but always at least one log group.
const MAX_PULL_BYTES: usize = 256 << 20;
