//! Version 1: HMAC-SHA1 of selected parts of the request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

use super::{AccessKey, Authorization, Request, Scheme, SignatureError, check_skew, not_match, truncate};

const METHOD: &str = "hmac-sha1";
const EXAMPLE: &str = "Mon, 23 Nov 2026 09:33:21 GMT";

/// Signs a request, and returns the headers to add: date, content-md5 (if the request has a body),
/// x-log-signaturemethod, authorization. The request must have all other headers, with names in lower case. `now` is
/// Unix time in seconds.
pub fn sign(key: &AccessKey<'_>, request: &Request<'_>, now: u64) -> Vec<(&'static str, String)> {
    // The formatter panics on dates after the year 9999.
    let now = UNIX_EPOCH + Duration::from_secs(now.min(253_402_300_799));
    let mut added =
        vec![("date", httpdate::fmt_http_date(now)), ("x-log-signaturemethod", METHOD.to_owned())];
    if !request.body.is_empty() {
        added.push(("content-md5", content_md5(request.body)));
    }
    let mut headers: Vec<_> = added.iter().map(|(name, value)| (*name, &**value)).collect();
    headers.extend(request.headers);
    let signed = Request { headers: &headers, ..*request };
    let text = string_to_sign(&signed, request.path, &added[0].1, true);
    let signature = STANDARD.encode(mac(key.secret, &text).finalize().into_bytes());
    added.push(("authorization", format!("LOG {}:{signature}", key.id)));
    added
}

/// Parses the part of the header after `LOG`.
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
        return Err(SignatureError::InvalidMethod { method: truncate(method) });
    }
    let date = request.header("date").or_else(|| request.header("x-log-date"));
    let date = date.ok_or(SignatureError::MissingDate { header: "Date" })?;
    let time = unix(date).ok_or_else(|| SignatureError::InvalidDate {
        header: "Date",
        text: truncate(date),
        example: EXAMPLE,
    })?;
    check_skew(date, time, now)?;
    let sent = STANDARD.decode(signature).map_err(|_| not_match(signature))?;
    let with_date = request.header("x-log-date").map(|_| true);
    for path in request.signed_path_forms() {
        for with_date in [Some(false), with_date].into_iter().flatten() {
            let text = string_to_sign(request, &path, date, with_date);
            // Compares in constant time.
            if mac(secret, &text).verify_slice(&sent).is_ok() {
                return Ok(());
            }
        }
    }
    Err(not_match(signature))
}

/// Checks that the body matches the signed hash. A body without a signed hash fails.
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

/// Returns the string to sign. It includes the header x-log-date if `x_log_date` is true.
fn string_to_sign(request: &Request<'_>, path: &str, date: &str, x_log_date: bool) -> String {
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
