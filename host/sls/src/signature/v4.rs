//! Version 4: HMAC-SHA256 with a key derived for one day and region.

use chrono::{DateTime, NaiveDateTime};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};

use super::{AccessKey, Authorization, Request, Scheme, SignatureError, check_skew, not_match, truncate};
use crate::query::RESERVED;

const ALGORITHM: &str = "SLS4-HMAC-SHA256";
const SERVICE: &str = "sls";
const TERMINATOR: &str = "aliyun_v4_request";
const DATE_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const EXAMPLE: &str = "20261123T093321Z";

/// The scope of a signature: the day and the region it is valid for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The day: YYYYMMDD.
    pub(super) date: &'a str,
    pub(super) region: &'a str,
}

/// Signs a request, and returns the headers to add: x-log-date, x-log-content-sha256, authorization. The request must
/// have all other headers, including host, with names in lower case. `now` is Unix time in seconds.
pub fn sign(
    key: &AccessKey<'_>,
    region: &str,
    request: &Request<'_>,
    now: u64,
) -> Vec<(&'static str, String)> {
    let now = i64::try_from(now).ok().and_then(|now| DateTime::from_timestamp(now, 0)).unwrap_or_default();
    let time = now.format(DATE_FORMAT).to_string();
    let hash = content_sha256(request.body);
    let mut added = vec![("x-log-date", time), ("x-log-content-sha256", hash)];
    let mut headers: Vec<_> = added.iter().map(|(name, value)| (*name, &**value)).collect();
    headers.extend(request.headers);
    let signed = Request { headers: &headers, ..*request };
    let date = now.format("%Y%m%d").to_string();
    let scope = Scope { date: &date, region };
    let signature = hex::encode(mac(key.secret, &scope, &signed, request.path).finalize().into_bytes());
    added.push((
        "authorization",
        format!("{ALGORITHM} Credential={}/{},Signature={signature}", key.id, scope.text()),
    ));
    added
}

/// Parses the part of the header after `SLS4-HMAC-SHA256`.
pub(super) fn parse(value: &str) -> Option<Authorization> {
    let (credential, signature) = value.split_once(',')?;
    let credential = credential.trim().strip_prefix("Credential=")?;
    let signature = signature.trim().strip_prefix("Signature=")?.to_owned();
    let mut parts = credential.split('/');
    let (key_id, date, region) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next()? != SERVICE || parts.next()? != TERMINATOR || parts.next().is_some() {
        return None;
    }
    let scheme = Scheme::V4 { date: date.to_owned(), region: region.to_owned(), signature };
    Some(Authorization { key_id: key_id.to_owned(), scheme })
}

pub(super) fn verify(
    scope: &Scope<'_>,
    signature: &str,
    secret: &str,
    request: &Request<'_>,
    now: u64,
) -> Result<(), SignatureError> {
    let date = request.header("x-log-date").ok_or(SignatureError::MissingDate { header: "x-log-date" })?;
    let time = unix(date).ok_or_else(|| SignatureError::InvalidDate {
        header: "x-log-date",
        text: truncate(date),
        example: EXAMPLE,
    })?;
    check_skew(date, time, now)?;
    if date.split('T').next() != Some(scope.date) {
        return Err(SignatureError::Scope);
    }
    let sent = hex::decode(signature).map_err(|_| not_match(signature))?;
    let signed = |path: &String| mac(secret, scope, request, path).verify_slice(&sent).is_ok();
    if request.signed_path_forms().iter().any(signed) { Ok(()) } else { Err(not_match(signature)) }
}

/// Checks that the body matches the signed hash.
pub(super) fn check_body(request: &Request<'_>) -> Result<(), SignatureError> {
    let hash = request.header("x-log-content-sha256").unwrap_or_default();
    let matches = hash.eq_ignore_ascii_case(&content_sha256(request.body));
    if matches { Ok(()) } else { Err(SignatureError::Body { header: "x-log-content-sha256" }) }
}

fn content_sha256(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

fn unix(date: &str) -> Option<u64> {
    // chrono's parser also accepts signs and longer years.
    let has_form = date.len() == EXAMPLE.len() && !date.contains(['+', '-', ' ']);
    let time = has_form.then(|| NaiveDateTime::parse_from_str(date, DATE_FORMAT).ok())??;
    u64::try_from(time.and_utc().timestamp()).ok()
}

impl Scope<'_> {
    fn text(&self) -> String {
        format!("{}/{}/{SERVICE}/{TERMINATOR}", self.date, self.region)
    }

    /// Derives the scope's key: HMACs the secret with each part of the scope in turn.
    fn key(&self, secret: &str) -> Vec<u8> {
        let secret = format!("aliyun_v4{secret}").into_bytes();
        let parts = [self.date, self.region, SERVICE, TERMINATOR];
        parts.iter().fold(secret, |key, part| hmac(&key, part).finalize().into_bytes().to_vec())
    }
}

/// Returns the unfinished MAC, so that it can be compared in constant time.
fn mac(secret: &str, scope: &Scope<'_>, request: &Request<'_>, path: &str) -> Hmac<Sha256> {
    let date = request.header("x-log-date").unwrap_or_default();
    let canonical = content_sha256(canonical(request, path).as_bytes());
    hmac(&scope.key(secret), &format!("{ALGORITHM}\n{date}\n{}\n{canonical}", scope.text()))
}

/// Returns the canonical form of the request.
fn canonical(request: &Request<'_>, path: &str) -> String {
    let others = ["content-type", "host"].map(|name| request.header(name).map(|value| (name, value)));
    let mut headers = request.log_headers();
    headers.extend(others.into_iter().flatten());
    headers.sort_unstable();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let query: Vec<_> = request.sorted_query().into_iter().map(pair).collect();
    let hash = request.header("x-log-content-sha256").unwrap_or_default();
    format!("{}\n{path}\n{}\n{lines}\n{}\n{hash}", request.method, query.join("&"), names.join(";"))
}

fn pair((key, value): (&str, &str)) -> String {
    match value {
        "" => key.to_owned(),
        _ => format!("{key}={}", utf8_percent_encode(value, RESERVED)),
    }
}

fn hmac(key: &[u8], text: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length").chain_update(text)
}
