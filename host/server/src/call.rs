//! Authenticated requests. Nothing in a request is trusted before its sender is authenticated.

use std::net::IpAddr;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Uri};
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query::Query;
use logship_sls::signature::{self, Authorization};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::Service;
use crate::keys::{ALL_PROJECTS, Access, Key};
use crate::operation::Operation;
use logship_config::service::Limits;

/// The largest component, in bytes. Languages with an embedded interpreter need tens of MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// An authenticated request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The project in the host name.
    pub(crate) project: Option<String>,
    /// The decoded segments of the path.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: IpAddr,
    /// The sender's key.
    pub(crate) key: Key,
}

impl Call {
    /// Receives and authenticates a request.
    ///
    /// The body is received only after the sender was authenticated, and only within limits. Its declared size is
    /// reserved first.
    pub(crate) async fn receive(
        service: &Service,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let host = host(&parts)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let credentials = Credentials::find(&parts.headers)?;
        let keys = service.keys.get();
        let key = keys.get(credentials.id()).ok_or_else(|| credentials.unknown())?.clone();
        if key.is_expired(service.now()) {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                format!("key {} has expired: request a new one", key.id),
            ));
        }
        credentials.check_head(&key, &parts, &query, service.now())?;
        // Components have a larger limit than logs, but only for admins.
        let may_be_component = Operation::takes_component(&parts.method, parts.uri.path());
        let limit = if may_be_component && key.allows(ALL_PROJECTS, Access::Admin) {
            MAX_COMPONENT_BYTES
        } else {
            service.config.limits.body_bytes()
        };
        let body = receive(service, &parts, body, limit).await?;
        credentials.check_body(&parts, &query, &body)?;
        Ok(Self {
            method: parts.method,
            project: project(&host, service.config.domain.as_deref()),
            path: segments(parts.uri.path())?,
            query,
            headers: parts.headers,
            body,
            peer,
            key,
        })
    }

    /// Fails unless the key has this access to the project.
    pub(crate) fn check_access(&self, project: &str, access: Access) -> Result<(), ApiError> {
        if self.key.allows(project, access) {
            return Ok(());
        }
        let verb = match access {
            Access::Write => "put logs into",
            Access::Read => "read",
            Access::ReadWrite | Access::Admin => "manage",
        };
        let message = format!("key {} is not allowed to {verb} project {project}", self.key.id);
        Err(ApiError::new(ErrorCode::Unauthorized, message))
    }

    /// The value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A numeric query parameter.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let invalid =
            |_| ApiError::new(ErrorCode::ParameterInvalid, format!("{name}={text} is not a number in range"));
        text.parse().map(Some).map_err(invalid)
    }

    /// The error of a request whose query parameter `type` is unknown.
    pub(crate) fn unknown_type(&self, known: &str) -> ApiError {
        let kind = self.query.get("type").unwrap_or_default();
        ApiError::new(ErrorCode::ParameterInvalid, format!("type={kind} is unknown: use {known}"))
    }

    /// A required query parameter.
    pub(crate) fn required(&self, name: &str) -> Result<&str, ApiError> {
        let missing =
            || ApiError::new(ErrorCode::ParameterInvalid, format!("the query parameter {name} is missing"));
        self.query.get(name).ok_or_else(missing)
    }
}

/// The credentials of a request.
enum Credentials {
    /// A signature, as the SDKs send it.
    Signed(Authorization),
    /// `Basic`, or `Bearer` with the same text `ID:SECRET`.
    Plain { id: String, secret: String },
}

impl Credentials {
    fn find(headers: &HeaderMap) -> Result<Self, ApiError> {
        let unauthorized = |message: &str| ApiError::new(ErrorCode::Unauthorized, message);
        let header = headers.get(AUTHORIZATION).ok_or_else(|| {
            unauthorized(
                "the request has no Authorization header: sign it, or send Basic or Bearer with ID:SECRET",
            )
        })?;
        let header = header.to_str().map_err(|_| unauthorized("the Authorization header is not text"))?;
        let plain = match header.split_once(' ') {
            Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => text.trim().to_owned(),
            Some((scheme, text)) if scheme.eq_ignore_ascii_case("basic") => {
                let decoded = BASE64_STANDARD.decode(text.trim()).ok();
                let text = decoded.and_then(|text| String::from_utf8(text).ok());
                text.ok_or_else(|| unauthorized("Authorization: Basic must have the base64 of ID:SECRET"))?
            }
            _ => return Ok(Self::Signed(Authorization::parse(header)?)),
        };
        let (id, secret) = plain
            .split_once(':')
            .ok_or_else(|| unauthorized("Authorization must have ID:SECRET, with the colon"))?;
        if id.contains(char::is_control) {
            // Control characters would get into the log.
            return Err(unauthorized("the ID of a key has only letters and digits"));
        }
        Ok(Self::Plain { id: id.into(), secret: secret.into() })
    }

    fn id(&self) -> &str {
        match self {
            Self::Signed(authorization) => &authorization.key_id,
            Self::Plain { id, .. } => id,
        }
    }

    fn unknown(&self) -> ApiError {
        let id: String = self.id().chars().take(64).collect();
        ApiError::new(ErrorCode::Unauthorized, format!("AccessKeyId not found: {id}"))
    }

    fn check_head(&self, key: &Key, parts: &Parts, query: &Query, now: u64) -> Result<(), ApiError> {
        let headers = headers(parts);
        let header = |name| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        match self {
            Self::Signed(authorization) => {
                check_version(header("x-log-apiversion"))?;
                authorization.verify_head(key.secret.expose(), &signed(parts, query, &headers, b""), now)?;
            }
            Self::Plain { secret, .. } if is_equal(secret, key.secret.expose()) => {}
            Self::Plain { .. } => {
                let message = format!("the secret of key {} is wrong", key.id);
                return Err(ApiError::new(ErrorCode::Unauthorized, message));
            }
        }
        match &key.token {
            Some(expected)
                if !is_equal(expected.expose(), header("x-acs-security-token").unwrap_or_default()) =>
            {
                let message = format!("key {} is temporary: send its token in x-acs-security-token", key.id);
                Err(ApiError::new(ErrorCode::Unauthorized, message))
            }
            _ => Ok(()),
        }
    }

    fn check_body(&self, parts: &Parts, query: &Query, body: &[u8]) -> Result<(), ApiError> {
        if let Self::Signed(authorization) = self {
            authorization.verify_body(&signed(parts, query, &headers(parts), body))?;
        }
        Ok(())
    }
}

/// Returns the ID of the key that an unauthenticated request claims to have, or an empty text.
pub(crate) fn claimed_key(headers: &HeaderMap) -> String {
    let credentials = Credentials::find(headers);
    credentials.map_or_else(|_| String::new(), |credentials| credentials.id().chars().take(64).collect())
}

/// Returns the project and the path of an unauthenticated request, as far as it has valid ones.
pub(crate) fn address(uri: &Uri, headers: &HeaderMap, domain: Option<&str>) -> (Option<String>, Vec<String>) {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()).map(without_port);
    let host = uri.host().or(header).unwrap_or_default().to_ascii_lowercase();
    (project(&host, domain), segments(uri.path()).unwrap_or_default())
}

fn headers(parts: &Parts) -> Vec<(&str, &str)> {
    parts.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

fn signed<'a>(
    parts: &'a Parts,
    query: &'a Query,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
) -> signature::Request<'a> {
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    signature::Request { method, path, query: query.pairs(), headers, body }
}

/// The supported versions of the API. They behave the same here.
const VERSIONS: [&str; 2] = ["0.4.0", "0.6.0"];

fn check_version(version: Option<&str>) -> Result<(), ApiError> {
    match version {
        Some(version) if VERSIONS.contains(&version) => Ok(()),
        Some(_) => Err(ApiError::new(ErrorCode::InvalidAPIVersion, "x-log-apiversion must be 0.6.0")),
        None => {
            Err(ApiError::new(ErrorCode::MissingAPIVersion, "x-log-apiversion is missing: it must be 0.6.0"))
        }
    }
}

fn is_equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// The host of the request, without its port.
fn host(parts: &Parts) -> Result<String, ApiError> {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).map(without_port);
    // A client of a proxy sends the host in the request line too. Both must match.
    match (parts.uri.host(), header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            let message = format!("the request's URL has the host {target}, but its Host header is {header}");
            Err(ApiError::new(ErrorCode::ParameterInvalid, message))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host.trim_matches(['[', ']']).to_ascii_lowercase()),
        (None, None) => Err(ApiError::new(ErrorCode::MissingHost, "the request has no Host header")),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns the project: the first label of the host name. An IP address or a name without dots has no project.
fn project(host: &str, domain: Option<&str>) -> Option<String> {
    if host.parse::<IpAddr>().is_ok() || domain.is_some_and(|domain| host.eq_ignore_ascii_case(domain)) {
        return None;
    }
    host.split_once('.').map(|(project, _)| project.to_owned()).filter(|project| !project.is_empty())
}

fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let decode = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8();
        decoded
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| ApiError::new(ErrorCode::ParameterInvalid, "the decoded path is not UTF-8"))
    };
    path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect()
}

/// Receives the body. The bytes hold their memory reservation.
async fn receive(
    service: &Service,
    parts: &Parts,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let limits = &service.config.limits;
    let too_large = |size: usize| {
        ApiError::new(ErrorCode::PostBodyTooLarge, format!("the body has {size} bytes; the limit is {limit}"))
    };
    let declared = match parts.headers.get(CONTENT_LENGTH) {
        None if body.is_end_stream() && matches!(parts.method, Method::POST | Method::PUT) => {
            let message = "the request has neither Content-Length nor chunked encoding, so it has no body";
            return Err(ApiError::new(ErrorCode::MissingContentLength, message));
        }
        _ if body.is_end_stream() => return Ok(Bytes::new()),
        // hyper has validated the number.
        Some(_) => body.size_hint().exact().map_or(limit, |size| size.try_into().unwrap_or(usize::MAX)),
        // Chunked encoding: reserve the limit.
        None => limit,
    };
    if declared > limit {
        return Err(too_large(declared));
    }
    let reservation = service.body_budget.reserve(declared).await?;
    let mut bytes = BytesMut::new();
    let started = Instant::now();
    // A slow client is fine while data arrives and the total time is limited.
    while let Some(frame) =
        tokio::time::timeout(limits.stall(), body.frame()).await.map_err(|_| body_timeout(limits))?
    {
        let truncated =
            |error| ApiError::new(ErrorCode::PostBodyInvalid, format!("the body ended early: {error}"));
        let Ok(data) = frame.map_err(truncated)?.into_data() else { continue };
        if bytes.is_empty() && data.len() == declared {
            return Ok(reservation.attach_to(data));
        }
        if bytes.len() + data.len() > limit {
            return Err(too_large(bytes.len() + data.len()));
        }
        if started.elapsed() > limits.stall() * MAX_BODY_STALLS {
            return Err(body_timeout(limits));
        }
        // Allocates with the received data: the declared size is only reserved.
        bytes.extend_from_slice(&data);
    }
    Ok(reservation.attach_to(bytes.freeze()))
}

/// The longest time to receive a body, in stall timeouts.
const MAX_BODY_STALLS: u32 = 10;

fn body_timeout(limits: &Limits) -> ApiError {
    let message =
        format!("the body stalled for {} s, or took too long in total: send it faster", limits.stall_seconds);
    ApiError::new(ErrorCode::RequestTimeout, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_project_from_host() {
        for (host, found) in [
            ("p.sls.local", Some("p")),
            ("p.127.0.0.1", Some("p")),
            ("127.0.0.1", None),
            ("::1", None),
            ("localhost", None),
            (".x", None),
            ("logs.example.org", None),
            ("p.logs.example.org", Some("p")),
        ] {
            assert_eq!(project(host, Some("logs.example.org")).as_deref(), found, "{host}");
        }
    }

    #[test]
    fn requires_same_host_in_url_and_header() {
        let host_of = |uri: &str, header: Option<&str>| {
            let mut request = Request::builder().uri(uri);
            if let Some(header) = header {
                request = request.header(HOST, header);
            }
            host(&request.body(()).unwrap().into_parts().0).ok()
        };
        assert_eq!(host_of("/", Some("P.sls.local:8080")).as_deref(), Some("p.sls.local"));
        assert_eq!(host_of("/", Some("[::1]:80")).as_deref(), Some("::1"));
        assert_eq!(
            host_of("http://p.sls.test:80/logstores", Some("P.sls.test")).as_deref(),
            Some("p.sls.test")
        );
        assert_eq!(host_of("http://p.sls.test:80/logstores", None).as_deref(), Some("p.sls.test"));
        assert_eq!(host_of("http://p.sls.test:80/logstores", Some("other")), None);
        assert_eq!(host_of("/", None), None);
    }

    #[test]
    fn splits_path_before_decoding() {
        assert_eq!(segments("/logstores//a%2Fb/").unwrap(), ["logstores", "a/b"]);
        assert!(segments("/%ff").is_err());
    }
}
