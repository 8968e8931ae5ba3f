//! Credentials of requests: signatures of SDKs, and plain secrets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::header::SIGNED_HOST_HEADER;
use logship_sls::query::Query;
use logship_sls::signature::{self, Authorization, Scheme};
use subtle::ConstantTimeEq;

use crate::keys::Key;

/// The credentials of a request.
pub(crate) enum Credentials {
    /// A signature, as the SDKs send it.
    Signed(Authorization),
    /// `Basic`, or `Bearer` with the same text `ID:SECRET`.
    Plain { id: String, secret: String },
}

impl Credentials {
    pub(crate) fn find(headers: &HeaderMap) -> Result<Self, ApiError> {
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

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Signed(authorization) => &authorization.key_id,
            Self::Plain { id, .. } => id,
        }
    }

    pub(crate) fn unknown(&self) -> ApiError {
        let id: String = self.id().chars().take(64).collect();
        ApiError::new(ErrorCode::Unauthorized, format!("AccessKeyId not found: {id}"))
    }

    /// Fails if the service does not accept the signature's version.
    pub(crate) fn check_version(&self, allows_v1: bool) -> Result<(), ApiError> {
        match self {
            Self::Signed(Authorization { scheme: Scheme::V1 { .. }, .. }) if !allows_v1 => {
                let message = "signatures of version 1 are not accepted: sign requests by version 4 (auth_version=v4 and a region)";
                Err(ApiError::new(ErrorCode::InvalidSignatureMethod, message))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_head(
        &self,
        key: &Key,
        parts: &Parts,
        query: &Query,
        now: u64,
    ) -> Result<(), ApiError> {
        let headers = headers(parts);
        let header = |name| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        match self {
            Self::Signed(authorization) => {
                check_version(header("x-log-apiversion"))?;
                check_signed_host(header(SIGNED_HOST_HEADER), header("host"))?;
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

    pub(crate) fn check_body(&self, parts: &Parts, query: &Query, body: &[u8]) -> Result<(), ApiError> {
        if let Self::Signed(authorization) = self {
            authorization.verify_body(&signed(parts, query, &headers(parts), body))?;
        }
        Ok(())
    }
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

/// Fails if the client signed another host. Version 1 covers this header only, not `Host`.
fn check_signed_host(signed: Option<&str>, sent: Option<&str>) -> Result<(), ApiError> {
    let same = |signed: &str| sent.is_some_and(|sent| signed.eq_ignore_ascii_case(without_port(sent)));
    if signed.is_none_or(same) {
        return Ok(());
    }
    let message = format!("the request was signed for another host: {SIGNED_HOST_HEADER} differs from Host");
    Err(ApiError::new(ErrorCode::SignatureNotMatch, message))
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

/// Returns a host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Returns the ID of the key that an unauthenticated request claims to have, or an empty text.
pub(crate) fn claimed_key(headers: &HeaderMap) -> String {
    let credentials = Credentials::find(headers);
    credentials.map_or_else(|_| String::new(), |credentials| credentials.id().chars().take(64).collect())
}
