//! Authenticated requests. Nothing in a request is trusted before its sender is authenticated.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};
use logship_listener::{Activity, Connection};
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query::Query;
use percent_encoding::percent_decode_str;

use crate::credentials::{Credentials, without_port};
use crate::fair_budget::Owner;
use crate::keys::{ALL_PROJECTS, Access, Key};
use crate::operation::Operation;
use crate::{Service, body};

/// The largest component, in bytes. Languages with an embedded interpreter need tens of MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// An authenticated request.
#[derive(Debug)]
pub(crate) struct Call {
    /// The project in the host name.
    pub(crate) project: Option<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: IpAddr,
    pub(crate) connection: Arc<Connection>,
    /// The sender's key.
    pub(crate) key: Arc<Key>,
}

/// A request whose sender is authenticated, and whose body is not received yet.
pub(crate) struct Head {
    /// The project in the host name.
    pub(crate) project: Option<String>,
    /// The decoded segments of the path.
    pub(crate) path: Arc<Vec<String>>,
    pub(crate) query: Query,
    /// The sender's key.
    pub(crate) key: Arc<Key>,
    credentials: Credentials,
    parts: Parts,
}

impl Head {
    /// Authenticates a request by all but its body.
    pub(crate) fn authenticate(
        service: &Service,
        parts: Parts,
        connection: &Connection,
    ) -> Result<Self, ApiError> {
        let host = host(&parts)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let credentials = Credentials::find(&parts.headers)?;
        let keys = service.keys.get();
        let key = keys.get(credentials.id()).ok_or_else(|| credentials.unknown())?;
        let key = Arc::clone(key);
        if key.is_expired(service.now()) {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                format!("key {} has expired: request a new one", key.id),
            ));
        }
        credentials.check_version(service.config.allow_v1_signatures)?;
        credentials.check_head(&key, &parts, &query, service.now())?;
        connection.set_activity(Activity::Waiting);
        connection
            .identify(&key.id, key.allows(ALL_PROJECTS, Access::Admin))
            .map_err(|error| ApiError::new(ErrorCode::ServerBusy, error.to_string()))?;
        let project = project(&host, service.config.domain.as_deref());
        let path = Arc::new(segments(parts.uri.path())?);
        Ok(Self { project, path, query, key, credentials, parts })
    }

    /// Returns the HTTP method.
    pub(crate) fn method(&self) -> &Method {
        &self.parts.method
    }

    /// Receives the body, within limits. `project` is the one that the operation belongs to.
    pub(crate) async fn receive(
        self,
        service: &Service,
        body: Incoming,
        project: Option<&str>,
        connection: &Arc<Connection>,
    ) -> Result<Call, ApiError> {
        // Components have a larger limit than logs, but only for keys that may send one.
        let may_be_component = Operation::takes_component(&self.parts.method, self.parts.uri.path());
        let limit = if may_be_component && may_send_component(&self.key) {
            MAX_COMPONENT_BYTES
        } else {
            service.config.limits.body_bytes()
        };
        let owner = Owner { key: self.key.id.as_str().into(), project: project.unwrap_or_default().into() };
        let body = body::receive(service, &self.parts, body, owner, limit).await?;
        self.credentials.check_body(&self.parts, &self.query, &body)?;
        Ok(self.into_call(body, connection))
    }

    /// Returns the request with a body.
    pub(crate) fn into_call(self, body: Bytes, connection: &Arc<Connection>) -> Call {
        let Self { project, query, key, parts, .. } = self;
        Call {
            project,
            query,
            headers: parts.headers,
            body,
            peer: connection.peer(),
            connection: Arc::clone(connection),
            key,
        }
    }
}

/// Returns true if the key may send a component in some request.
fn may_send_component(key: &Key) -> bool {
    match &key.policy {
        Some(policy) => policy.may_allow(&["logship:CreateStage", "logship:PreviewStage"]),
        None => key.allows(ALL_PROJECTS, Access::Admin),
    }
}

/// Fails unless the key has this access to the project.
pub(crate) fn check_access(key: &Key, project: &str, access: Access) -> Result<(), ApiError> {
    if key.allows(project, access) {
        return Ok(());
    }
    let verb = match access {
        Access::Write => "put logs into",
        Access::Read => "read",
        Access::ReadWrite | Access::Admin => "manage",
    };
    let message = format!("key {} is not allowed to {verb} project {project}", key.id);
    Err(ApiError::new(ErrorCode::Unauthorized, message))
}

impl Call {
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

/// Returns the project and the path of an unauthenticated request, as far as it has valid ones.
pub(crate) fn address(uri: &Uri, headers: &HeaderMap, domain: Option<&str>) -> (Option<String>, Vec<String>) {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()).map(without_port);
    let host = uri.host().or(header).unwrap_or_default().to_ascii_lowercase();
    (project(&host, domain), segments(uri.path()).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use hyper::Request;

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
