//! The hosts that a component may connect to.

use std::future::Future;
use std::sync::Arc;

use http::Uri;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// An entry of `allowed_outbound_hosts`: `https://example.org`, `http://127.0.0.1:9000`, `https://*.example.org`,
/// `*://*:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// `None` allows any.
    scheme: Option<String>,
    host: Host,
    /// `None` allows any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// All subdomains of a domain, with a leading dot: `.example.org`.
    Subdomains(String),
    Exact(String),
}

impl AllowedHost {
    /// Parses an entry. Returns `None` if it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // The colons in an IPv6 address are within brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let scheme = (scheme != "*").then(|| scheme.to_ascii_lowercase());
        let port = match (port, scheme.as_deref()) {
            (Some("*"), _) | (None, None) => None,
            (Some(port), _) => Some(port.parse().ok()?),
            (None, Some(scheme)) => Some(default_port(scheme)?),
        };
        let host = match host.to_ascii_lowercase() {
            host if host == "*" => Host::Any,
            host if host.is_empty() || host.contains('/') => return None,
            host => match host.strip_prefix('*') {
                Some(domain) if domain.starts_with('.') && !domain.contains('*') => {
                    Host::Subdomains(domain.to_owned())
                }
                None if !host.contains('*') => Host::Exact(host),
                _ => return None,
            },
        };
        Some(Self { scheme, host, port })
    }

    fn allows(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
        let host = host.to_ascii_lowercase();
        let is_host = match &self.host {
            Host::Any => true,
            Host::Subdomains(end) => host.ends_with(end.as_str()) && host.len() > end.len(),
            Host::Exact(exact) => host == *exact,
        };
        let port = uri.port_u16().or(default_port(scheme));
        is_host
            && self.scheme.as_deref().is_none_or(|allowed| allowed == scheme)
            && self.port.is_none_or(|allowed| Some(allowed) == port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "redis" => Some(6379),
        _ => None,
    }
}

/// Filters a component's outgoing requests.
#[derive(Debug, Clone)]
pub(crate) struct Outbound(pub(crate) Arc<[AllowedHost]>);

type SendResult = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<SendResult, Error>> + Send> {
        use http_body_util::BodyExt as _;
        if !self.0.iter().any(|allowed| allowed.allows(request.uri())) {
            tracing::warn!(
                host = request.uri().host(),
                "rejected a function's request: add the host to allowed_outbound_hosts to allow it"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        Box::new(async move {
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((response.map(|body| body.boxed_unsync()), Box::new(io) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, uri: &str) -> bool {
        AllowedHost::parse(entry).unwrap().allows(&uri.parse().unwrap())
    }

    #[test]
    fn entry_allows_only_matching_requests() {
        assert!(allows("https://example.org", "https://EXAMPLE.org/x"));
        assert!(allows("https://example.org:443", "https://example.org"));
        assert!(!allows("https://example.org", "http://example.org"));
        assert!(!allows("https://example.org", "https://example.org:8443"));
        assert!(!allows("https://example.org", "https://example.org.evil.net"));
        assert!(!allows("https://example.org", "https://evil.net/?https://example.org"));
        assert!(!allows("https://example.org", "https://example.org@evil.net"));
        assert!(allows("https://*.example.org", "https://a.b.example.org"));
        assert!(!allows("https://*.example.org", "https://example.org"));
        assert!(!allows("https://*.example.org", "https://evilexample.org"));
        assert!(allows("http://127.0.0.1:*", "http://127.0.0.1:9000"));
        assert!(!allows("http://127.0.0.1:*", "http://127.0.0.2:9000"));
        assert!(allows("*://*:*", "http://x:1"));
        assert!(allows("http://[::1]:90", "http://[::1]:90/"));
    }

    #[test]
    fn rejects_invalid_entries() {
        for text in [
            "example.org",
            "https://",
            "https://example.org/path",
            "https://ex*.org",
            "https://*org",
            "x://y",
            "http://x:y",
        ] {
            assert_eq!(AllowedHost::parse(text), None, "{text}");
        }
    }
}
