//! Version 1: HMAC-SHA1 of a few lines about the request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

use super::{AccessKey, Authorization, Request, Scheme, SignatureError, check_skew, not_match, shorten};

const METHOD: &str = "hmac-sha1";
const EXAMPLE: &str = "Mon, 23 Nov 2026 09:33:21 GMT";

/// Signs a request that has all of its headers but those that come back, names in lower case: date, content-md5 if
/// there is a body, x-log-signaturemethod, authorization. `now` is Unix time in seconds.
pub fn sign(key: &AccessKey<'_>, request: &Request<'_>, now: u64) -> Vec<(&'static str, String)> {
    // Past the year 9999 there is no such date, and the formatter panics.
    let now = UNIX_EPOCH + Duration::from_secs(now.min(253_402_300_799));
    let mut added =
        vec![("date", httpdate::fmt_http_date(now)), ("x-log-signaturemethod", METHOD.to_owned())];
    if !request.body.is_empty() {
        added.push(("content-md5", content_md5(request.body)));
    }
    let mut headers: Vec<_> = added.iter().map(|(name, value)| (*name, &**value)).collect();
    headers.extend(request.headers);
    let signed = Request { headers: &headers, ..*request };
    let text = text(&signed, request.path, &added[0].1, true);
    let signature = STANDARD.encode(mac(key.secret, &text).finalize().into_bytes());
    added.push(("authorization", format!("LOG {}:{signature}", key.id)));
    added
}

/// Reads what stands behind `LOG`.
pub(super) fn parse(value: &str) -> Option<Authorization> {
    let (key_id, signature) = value.split_once(':')?;
    let scheme = Scheme::V1 { signature: signature.to_owned() };
    Some(Authorization { key_id: key_id.to_owned(), scheme })
}

pub(super) fn verify(
    signature: &str,
    secret: &str,
    request: &Request<'_>,
    now: u64,
) -> Result<(), SignatureError> {
    let method = request.header("x-log-signaturemethod").ok_or(SignatureError::MissingMethod)?;
    if !method.eq_ignore_ascii_case(METHOD) {
        return Err(SignatureError::InvalidMethod { method: shorten(method) });
    }
    let date = request.header("date").or_else(|| request.header("x-log-date"));
    let date = date.ok_or(SignatureError::MissingDate { header: "Date" })?;
    let time = unix(date).ok_or_else(|| SignatureError::InvalidDate {
        header: "Date",
        text: shorten(date),
        example: EXAMPLE,
    })?;
    check_skew(date, time, now)?;
    let sent = STANDARD.decode(signature).map_err(|_| not_match(signature))?;
    let with_date = request.header("x-log-date").map(|_| true);
    for path in request.paths() {
        for with_date in [Some(false), with_date].into_iter().flatten() {
            let text = text(request, &path, date, with_date);
            // In constant time.
            if mac(secret, &text).verify_slice(&sent).is_ok() {
                return Ok(());
            }
        }
    }
    Err(not_match(signature))
}

/// A body has its hash among what is signed, or nobody knows whose it is.
pub(super) fn check_body(request: &Request<'_>) -> Result<(), SignatureError> {
    let matches = match request.header("content-md5") {
        Some(hash) => hash.eq_ignore_ascii_case(&content_md5(request.body)),
        None => request.body.is_empty(),
    };
    if matches { Ok(()) } else { Err(SignatureError::Body { header: "Content-MD5" }) }
}

fn content_md5(body: &[u8]) -> String {
    hex::encode_upper(Md5::digest(body))
}

fn unix(date: &str) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(date.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// What is signed. `x_log_date` says whether that header is among it.
fn text(request: &Request<'_>, path: &str, date: &str, x_log_date: bool) -> String {
    let header = |name| request.header(name).unwrap_or_default();
    let mut text =
        format!("{}\n{}\n{}\n{date}\n", request.method, header("content-md5"), header("content-type"));
    for (name, value) in request.log_headers() {
        if x_log_date || name != "x-log-date" {
            text.extend([name, ":", value, "\n"]);
        }
    }
    text.push_str(path);
    let mut separator = "?";
    for (key, value) in request.sorted_query() {
        text.extend([separator, key, "=", value]);
        separator = "&";
    }
    text
}

fn mac(secret: &str, text: &str) -> Hmac<Sha1> {
    Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length").chain_update(text)
}
