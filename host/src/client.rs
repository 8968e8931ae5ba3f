//! A client of Log Service: of ours, or of any other that speaks its API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logship_sls::compression::Compression;
use logship_sls::cursor::Cursor;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query;
use logship_sls::signature::{AccessKey, Request, v1, v4};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where the service is, and who asks.
#[derive(Clone)]
pub struct Endpoint {
    /// Its URL, without a path: `https://cn-hangzhou.log.aliyuncs.com`.
    pub url: Url,
    /// The id of the access key.
    pub key_id: String,
    /// Its secret.
    pub secret: String,
    /// The token of a temporary key.
    pub token: Option<String>,
    /// The region. With one, requests are signed by version 4.
    pub region: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Endpoint");
        shown.field("url", &self.url.as_str()).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why a request got no good reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service refused it.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// It was not reached, or the connection broke.
    #[error("{url}: {}", chain(.source))]
    Connection {
        /// The endpoint.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The reply is not one of Log Service.
    #[error("{url} answered {status}, but not as Log Service does: {message}")]
    Reply {
        /// The endpoint.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        message: String,
    },
}

/// An error with its causes: reqwest shows only itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(error) => error.status() >= 500 || error.code == ErrorCode::ServerBusy,
            Self::Connection { .. } => true,
            Self::Reply { status, .. } => *status >= 500,
        }
    }
}

/// A client of one project.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    project: String,
    http: reqwest::Client,
}

/// What is asked: of a method and path, with a query and a body.
struct Ask<'a> {
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
    /// Where to go on.
    pub next: Cursor,
    /// How many groups there are.
    pub groups: usize,
    /// The position of the first, where the service says it.
    pub first: Option<u64>,
}

/// Groups that a pull has at most.
pub const MOST_GROUPS: usize = 1000;

/// The header of a pull's answer that says where its first group stands: behind the cursor, if logs were deleted. An
/// extension.
pub const FIRST: &str = "x-logship-first";

/// Time that a request may take: the SDKs' own.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Client {
    /// A client of `project`.
    pub fn new(endpoint: Endpoint, project: &str) -> Result<Self, ClientError> {
        // The first to come installs it; another one of the same kind is as good.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        // The service redirects nobody; and nobody else shall have the headers.
        let http =
            reqwest::Client::builder().timeout(TIMEOUT).tcp_nodelay(true).redirect(Policy::none()).build();
        let http =
            http.map_err(|source| ClientError::Connection { url: endpoint.url.to_string(), source })?;
        Ok(Self { endpoint, project: project.into(), http })
    }

    /// Reads something as JSON.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let ask = Ask { method: Method::GET, path: path.into(), query, headers: vec![], body: vec![] };
        self.json(self.send(ask).await?.1)
    }

    /// Reads something as it is.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let ask = Ask { method: Method::GET, path: path.into(), query: &[], headers: vec![], body: vec![] };
        Ok(self.send(ask).await?.1)
    }

    /// Sends something as JSON, and reads the reply as JSON; an empty one is null.
    pub async fn send_json(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.send_json_with(method, path, query, vec![], body).await
    }

    /// Sends something as JSON with more headers.
    pub(crate) async fn send_json_with(
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
        let ask = Ask { method, path: path.into(), query, headers, body: bytes };
        let (_, reply) = self.send(ask).await?;
        if reply.is_empty() { Ok(Value::Null) } else { self.json(reply) }
    }

    /// Sends bytes as they are, and reads the reply as JSON.
    pub async fn send_bytes(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, ClientError> {
        let headers =
            vec![("content-type", content_type.to_owned()), ("x-log-bodyrawsize", body.len().to_string())];
        self.json(self.send(Ask { method: Method::POST, path: path.into(), query, headers, body }).await?.1)
    }

    /// Puts a log group, in protobuf.
    pub async fn put(&self, logstore: &str, group: &[u8], hash_key: Option<&str>) -> Result<(), ClientError> {
        let compressed = Compression::Lz4.compress(group).map_err(ApiError::from)?;
        let key = hash_key.map(|key| ("key", key));
        let way = if key.is_some() { "route" } else { "lb" };
        let ask = Ask {
            method: Method::POST,
            path: format!("/logstores/{logstore}/shards/{way}"),
            query: key.as_slice(),
            headers: vec![
                ("content-type", "application/x-protobuf".into()),
                ("x-log-bodyrawsize", group.len().to_string()),
                ("x-log-compresstype", "lz4".into()),
            ],
            body: compressed,
        };
        self.send(ask).await.map(drop)
    }

    /// The cursor of `from`: `begin`, `end` or a Unix time.
    pub async fn cursor(&self, logstore: &str, shard: u32, from: &str) -> Result<Cursor, ClientError> {
        let path = format!("/logstores/{logstore}/shards/{shard}");
        let reply: Value = self.get(&path, &[("type", "cursor"), ("from", from)]).await?;
        let cursor = reply["cursor"].as_str().unwrap_or_default();
        Cursor::decode(cursor).map_err(|error| self.reply(200, &error.to_string()))
    }

    /// Pulls log groups from a cursor on. A logship service waits up to `wait` seconds for one to come.
    pub async fn pull(
        &self,
        logstore: &str,
        shard: u32,
        from: Cursor,
        wait: u32,
    ) -> Result<Pulled, ClientError> {
        let (cursor, wait, count) = (from.encode(), wait.to_string(), MOST_GROUPS.to_string());
        let query = [("type", "log"), ("cursor", &*cursor), ("count", &*count), ("wait", &*wait)];
        // Log Service itself knows no waiting.
        let query = if wait == "0" { &query[..3] } else { &query[..] };
        let ask = Ask {
            method: Method::GET,
            path: format!("/logstores/{logstore}/shards/{shard}"),
            query,
            headers: vec![("accept-encoding", "lz4".into()), ("accept", "application/x-protobuf".into())],
            body: vec![],
        };
        let (headers, body) = self.send(ask).await?;
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| self.reply(200, &format!("the header {name} is missing")))
        };
        let number = |name: &str| {
            let invalid = |_| self.reply(200, &format!("the header {name} is no number"));
            header(name)?.parse::<usize>().map_err(invalid)
        };
        let (groups, size) = (number("x-log-count")?, number("x-log-bodyrawsize")?);
        let compression = Compression::from_header(header("x-log-compresstype").unwrap_or_default());
        let list = match compression.map_err(ApiError::from)? {
            Compression::None => body,
            other => other.decompress(&body, size, LARGEST_PULL).map_err(ApiError::from)?,
        };
        let next = Cursor::decode(header("x-log-cursor")?).map_err(ApiError::from)?;
        let first = header(FIRST).ok().and_then(|first| first.parse().ok());
        Ok(Pulled { list, next, groups, first })
    }

    /// Signs and sends a request; the reply's headers and body if it is a good one.
    async fn send(&self, ask: Ask<'_>) -> Result<(HeaderMap, Vec<u8>), ClientError> {
        let (url, host) = self.address(&ask)?;
        let headers = self.signed(&ask, &host);
        let request = self.http.request(ask.method, url).headers(headers).body(ask.body);
        let failed = |source: reqwest::Error| ClientError::Connection {
            url: self.endpoint.url.to_string(),
            source: source.without_url(),
        };
        let reply = request.send().await.map_err(failed)?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let body = reply.bytes().await.map_err(failed)?.to_vec();
        if status.as_u16() == 200 {
            return Ok((headers, body));
        }
        Err(match ApiError::from_json(&body) {
            Some(error) => error.into(),
            None => self.reply(status.as_u16(), &String::from_utf8_lossy(&body[..body.len().min(200)])),
        })
    }

    /// The URL to connect to, and the host that is named: the project stands before the endpoint's name. An address,
    /// or this machine, has no such names: there only the header names the project.
    fn address(&self, ask: &Ask<'_>) -> Result<(Url, String), ClientError> {
        let mut url = self.endpoint.url.clone();
        let name = url.host_str().unwrap_or_default().to_owned();
        let named = if self.project.is_empty() { name.clone() } else { format!("{}.{name}", self.project) };
        let direct = name == "localhost" || url.domain().is_none();
        if !direct {
            url.set_host(Some(&named))
                .map_err(|error| self.reply(0, &format!("{named:?} is no host: {error}")))?;
        }
        url.set_path(&ask.path);
        let query = query::encode(ask.query);
        url.set_query((!query.is_empty()).then_some(&query));
        Ok((url, named))
    }

    fn signed(&self, ask: &Ask<'_>, host: &str) -> HeaderMap {
        let mut headers = vec![("host", host.to_owned()), ("x-log-apiversion", "0.6.0".into())];
        headers.extend(ask.headers.iter().cloned());
        headers.extend(self.endpoint.token.clone().map(|token| ("x-acs-security-token", token)));
        let query: Vec<_> =
            ask.query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let shown: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = Request {
            method: ask.method.as_str(),
            path: &ask.path,
            query: &query,
            headers: &shown,
            body: &ask.body,
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

    fn json<T: DeserializeOwned>(&self, body: Vec<u8>) -> Result<T, ClientError> {
        serde_json::from_slice(&body).map_err(|error| self.reply(200, &error.to_string()))
    }

    /// An answer that is none of the API.
    pub(crate) fn reply(&self, status: u16, message: &str) -> ClientError {
        ClientError::Reply { url: self.endpoint.url.to_string(), status, message: message.into() }
    }
}

/// Bytes that a pull may have uncompressed; services send some MB, but always at least one log group.
const LARGEST_PULL: usize = 256 << 20;
