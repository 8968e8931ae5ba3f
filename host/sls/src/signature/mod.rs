//! Request signatures: signing and verification.
//!
//! Clients use [`v1`] by default, and [`v4`] if configured. The server parses [`Authorization`], looks up the secret
//! of its key ID, and calls [`Authorization::verify`].
//!
//! # Differences between clients
//! - The Python SDK signs a percent-encoded path in decoded form; the Go SDK signs it as sent. Both forms are accepted.
//! - The Python SDK sends `x-log-date` in version 1 too, but adds it after signing. Other clients don't send it.
//!   Signatures with and without this header are accepted. If a proxy drops `Date`, `x-log-date` is the request's
//!   date.

mod error;
pub mod v1;
pub mod v4;

pub use error::SignatureError;

use percent_encoding::percent_decode_str;

/// A request to sign or verify. Header names are in lower case.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// GET, POST, ...
    pub method: &'a str,
    /// The path as sent, without the query.
    pub path: &'a str,
    /// The query's decoded key-value pairs.
    pub query: &'a [(String, String)],
    /// Headers, with names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body as sent, after compression.
    pub body: &'a [u8],
}

/// An access key: an ID, and a secret shared by its owner and the server.
#[derive(Clone, Copy)]
pub struct AccessKey<'a> {
    /// The ID.
    pub id: &'a str,
    /// The secret.
    pub secret: &'a str,
}

/// A parsed Authorization header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The access key ID of the signer.
    pub key_id: String,
    /// The signature and its version.
    pub scheme: Scheme,
}

/// A signature of one of the versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// Version 1.
    V1 {
        /// HMAC-SHA1 in base64.
        signature: String,
    },
    /// Version 4.
    V4 {
        /// The day: YYYYMMDD.
        date: String,
        /// The signature's region.
        region: String,
        /// HMAC-SHA256 in hexadecimal.
        signature: String,
    },
}

/// The largest difference between a request's date and the server's time, in seconds.
const MAX_CLOCK_SKEW: u64 = 15 * 60;

impl Authorization {
    /// Parses an Authorization header.
    ///
    /// # Errors
    /// Fails if the scheme is unknown or the access key ID is missing.
    pub fn parse(header: &str) -> Result<Self, SignatureError> {
        let (scheme, rest) = header.trim().split_once(' ').ok_or(SignatureError::UnknownForm)?;
        let authorization = match scheme {
            "LOG" => v1::parse(rest.trim()),
            "SLS4-HMAC-SHA256" => v4::parse(rest.trim()),
            _ => None,
        };
        let authorization = authorization.ok_or(SignatureError::UnknownForm)?;
        if authorization.key_id.is_empty() { Err(SignatureError::MissingKeyId) } else { Ok(authorization) }
    }

    /// Verifies that `request` and its body were signed with `secret`, within 15 minutes of `now` (Unix seconds).
    ///
    /// # Errors
    /// Fails if the signature, the date or the body's hash doesn't match.
    pub fn verify(&self, secret: &str, request: &Request<'_>, now: u64) -> Result<(), SignatureError> {
        self.verify_head(secret, request, now)?;
        self.verify_body(request)
    }

    /// Verifies everything but the body, whose hash is among the signed headers. So the server can reject an
    /// unauthenticated request before it receives the body.
    ///
    /// # Errors
    /// Fails if the signature or the date doesn't match.
    pub fn verify_head(&self, secret: &str, request: &Request<'_>, now: u64) -> Result<(), SignatureError> {
        match &self.scheme {
            Scheme::V1 { signature } => v1::verify(signature, secret, request, now),
            Scheme::V4 { date, region, signature } => {
                v4::verify(&v4::Scope { date, region }, signature, secret, request, now)
            }
        }
    }

    /// Verifies that the body matches the signed hash.
    ///
    /// # Errors
    /// Fails if the hashes differ.
    pub fn verify_body(&self, request: &Request<'_>) -> Result<(), SignatureError> {
        match &self.scheme {
            Scheme::V1 { .. } => v1::check_body(request),
            Scheme::V4 { .. } => v4::check_body(request),
        }
    }
}

impl<'a> Request<'a> {
    /// Returns the value of a header by its lower-case name.
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// Returns the headers that both versions sign, sorted.
    fn log_headers(&self) -> Vec<(&'a str, &'a str)> {
        let is_signed = |name: &str| {
            name.starts_with("x-acs-") || (name.starts_with("x-log-") && !name.starts_with("x-log-meta-"))
        };
        let mut headers: Vec<_> = self.headers.iter().copied().filter(|(name, _)| is_signed(name)).collect();
        headers.sort_unstable();
        headers
    }

    /// Returns the query's pairs, sorted by key.
    fn sorted_query(&self) -> Vec<(&'a str, &'a str)> {
        let mut pairs: Vec<_> = self.query.iter().map(|(key, value)| (&**key, &**value)).collect();
        pairs.sort_by_key(|(key, _)| *key);
        pairs
    }

    /// Returns the accepted forms of the path: decoded and as sent.
    fn signed_path_forms(&self) -> Vec<String> {
        let sent = self.path.to_owned();
        match percent_decode_str(self.path).decode_utf8() {
            Ok(decoded) if decoded != self.path => vec![decoded.into_owned(), sent],
            _ => vec![sent],
        }
    }
}

fn check_skew(date: &str, time: u64, now: u64) -> Result<(), SignatureError> {
    let seconds = time.abs_diff(now);
    if seconds <= MAX_CLOCK_SKEW {
        Ok(())
    } else {
        Err(SignatureError::Skewed { date: truncate(date), seconds })
    }
}

fn not_match(signature: &str) -> SignatureError {
    SignatureError::NotMatch { signature: truncate(signature) }
}

/// Truncates untrusted text for an error message.
fn truncate(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
