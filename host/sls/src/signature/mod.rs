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
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::query::Query;

    /// 2026-11-23 09:33:21 UTC.
    const NOVEMBER_23: u64 = 1_795_426_401;
    /// 2026-11-20 06:07:08 UTC.
    const NOVEMBER_20: u64 = 1_795_154_828;

    type Headers = Vec<(&'static str, String)>;

    fn headers(headers: &[(&'static str, &str)]) -> Headers {
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    fn authorization(headers: &Headers) -> Authorization {
        let header = headers.iter().find(|(name, _)| *name == "authorization").unwrap();
        Authorization::parse(&header.1).unwrap()
    }

    /// An owned request that tests modify.
    #[derive(Clone)]
    struct OwnedRequest {
        method: &'static str,
        path: &'static str,
        query: &'static str,
        headers: Headers,
        body: &'static [u8],
    }

    impl OwnedRequest {
        fn with<T>(&self, work: impl FnOnce(&Request<'_>) -> T) -> T {
            let query = Query::parse(self.query).unwrap();
            let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let Self { method, path, body, .. } = *self;
            work(&Request { method, path, query: query.pairs(), headers: &headers, body })
        }

        fn verify(&self, secret: &str, now: u64) -> Result<(), SignatureError> {
            self.with(|request| authorization(&self.headers).verify(secret, request, now))
        }

        fn set(&self, name: &'static str, value: Option<&str>) -> Self {
            let mut other = self.clone();
            other.headers.retain(|(old, _)| *old != name);
            other.headers.extend(value.map(|value| (name, value.to_owned())));
            other
        }
    }

    /// The example request of the wire reference.
    fn checkpoint() -> OwnedRequest {
        OwnedRequest {
            method: "POST",
            path: "/logstores/ls/consumergroups/cg",
            query: "type=checkpoint&consumer=c+1&forceSuccess=True",
            headers: headers(&[
                ("host", "p.h"),
                ("content-type", "application/json"),
                ("x-log-apiversion", "0.6.0"),
            ]),
            body: br#"{"shard": 0, "checkpoint": "MTUyNDE1NTM3OTM3MzkwODQ5Ng=="}"#,
        }
    }

    fn signed_v1() -> OwnedRequest {
        let mut sent = checkpoint();
        let key = AccessKey { id: "ak-id", secret: "ak-secret" };
        let added = sent.with(|request| v1::sign(&key, request, NOVEMBER_23));
        sent.headers.extend(added);
        sent
    }

    fn signed_v4() -> OwnedRequest {
        let mut sent = checkpoint();
        let key = AccessKey { id: "ak-id", secret: "ak-secret" };
        let added = sent.with(|request| v4::sign(&key, "local", request, NOVEMBER_23));
        sent.headers.extend(added);
        sent
    }

    #[test]
    fn v1_signature_matches_wire_reference() {
        let sent = signed_v1();
        let expected = [
            ("date", "Mon, 23 Nov 2026 09:33:21 GMT"),
            ("x-log-signaturemethod", "hmac-sha1"),
            ("content-md5", "2F9A5D6DAEEE93052687135FC0C77D50"),
            ("authorization", "LOG ak-id:RfbYxL8Qol24xhza336/n+4qqbU="),
        ];
        assert_eq!(sent.headers[3..], headers(&expected));
        assert_eq!(sent.verify("ak-secret", NOVEMBER_23), Ok(()));
        assert_eq!(authorization(&sent.headers).key_id, "ak-id");
    }

    #[test]
    fn v4_signature_matches_wire_reference() {
        let sent = signed_v4();
        let signature = "073732644f77958bab91a2155476a258eb5a358e1d9576f53bf41e1c400d6696";
        let expected = format!(
            "SLS4-HMAC-SHA256 Credential=ak-id/20261123/local/sls/aliyun_v4_request,Signature={signature}"
        );
        assert_eq!(sent.headers[3], ("x-log-date", "20261123T093321Z".to_owned()));
        assert_eq!(sent.headers[5], ("authorization", expected));
        assert_eq!(sent.verify("ak-secret", NOVEMBER_23), Ok(()));
    }

    /// A request as captured from aliyun-log-python-sdk 0.9.52 and its HTTP library.
    fn python(authorization: &[(&'static str, &str)]) -> OwnedRequest {
        let mut all = headers(&[
            ("content-type", "application/json"),
            ("x-log-bodyrawsize", "17"),
            ("x-log-apiversion", "0.6.0"),
            ("host", "my-project.sls.local"),
            ("x-log-meta-name", "not signed"),
            ("x-acs-security-token", "CAIS token=="),
            ("content-length", "17"),
        ]);
        all.extend(headers(authorization));
        OwnedRequest {
            method: "POST",
            path: "/logstores/my%20store/shards/a~b%25c",
            query: "key=a+b%2Bc%26d%3De%2F%C3%BC~%2A&empty=&Upper=True&n=7",
            headers: all,
            body: "{\"q\": \"größer\"}".as_bytes(),
        }
    }

    #[test]
    fn accepts_python_sdk_signatures() {
        let v1 = python(&[
            ("x-log-signaturemethod", "hmac-sha1"),
            ("date", "Fri, 20 Nov 2026 06:07:08 GMT"),
            ("content-md5", "B5C04CFE0D4033E68218A141F33D9677"),
            ("authorization", "LOG LTAI4Gexample:6EAvw3jAvm9R3tMIiu3gBQt8Ca0="),
            ("x-log-date", "Fri, 20 Nov 2026 06:07:08 GMT"),
        ]);
        let v4 = python(&[
            ("x-log-content-sha256", "c9b0cc63d1db11d48ffea768f4c8030f3bb262dbd5739e32f56b007ccf8b3ea2"),
            ("x-log-date", "20261120T060708Z"),
            (
                "authorization",
                "SLS4-HMAC-SHA256 Credential=LTAI4Gexample/20261120/cn-hangzhou/sls/aliyun_v4_request,Signature=ae1f31935b35a2fc487d8a3ef23c8acf16c68a2aa1fff9181a82d984272e5fbc",
            ),
        ]);
        // A proxy dropped the date; the SDK sends it twice for this case.
        let without_date = v1.set("date", None);
        for sent in [v1, v4, without_date] {
            assert_eq!(sent.verify("Sécret/key+1", NOVEMBER_20 + 900), Ok(()));
            assert!(matches!(sent.verify("Secret/key+1", NOVEMBER_20), Err(SignatureError::NotMatch { .. })));
        }
    }

    #[test]
    fn v1_accepts_signed_extra_date() {
        let mut sent = checkpoint().set("x-log-date", Some("Mon, 23 Nov 2026 09:33:21 GMT"));
        let key = AccessKey { id: "ak-id", secret: "ak-secret" };
        let added = sent.with(|request| v1::sign(&key, request, NOVEMBER_23));
        sent.headers.extend(added);
        assert_eq!(sent.verify("ak-secret", NOVEMBER_23), Ok(()));
    }

    #[test]
    fn rejects_any_modification() {
        for sent in [signed_v1(), signed_v4()] {
            let scheme = authorization(&sent.headers).scheme;
            let changed = [
                OwnedRequest { method: "PUT", ..sent.clone() },
                OwnedRequest { path: "/logstores/ls/consumergroups/cg2", ..sent.clone() },
                OwnedRequest { query: "type=checkpoint&consumer=c+2&forceSuccess=True", ..sent.clone() },
                OwnedRequest { query: "type=checkpoint&consumer=c+1", ..sent.clone() },
                OwnedRequest { body: b"{}", ..sent.clone() },
                OwnedRequest { body: b"", ..sent.clone() },
                sent.set("content-type", None),
                sent.set("x-log-apiversion", Some("0.4.0")),
                sent.set("x-acs-more", Some("1")),
            ];
            for other in changed {
                let code = other.verify("ak-secret", NOVEMBER_23).unwrap_err().code();
                assert_eq!(code, ErrorCode::SignatureNotMatch, "{scheme:?}");
            }
            assert_eq!(sent.set("x-log-meta-x", Some("1")).verify("ak-secret", NOVEMBER_23), Ok(()));
            for now in [NOVEMBER_23 - 901, NOVEMBER_23 + 901] {
                let error = sent.verify("ak-secret", now).unwrap_err();
                assert_eq!(error.code(), ErrorCode::RequestTimeTooSkewed);
            }
        }
        let other_host = signed_v4().set("host", Some("q.h"));
        assert!(other_host.verify("ak-secret", NOVEMBER_23).is_err());
    }

    #[test]
    fn errors_have_log_service_codes() {
        let (v1, v4) = (signed_v1(), signed_v4());
        let cases = [
            (v1.set("date", None), ErrorCode::MissingDate),
            (v4.set("x-log-date", None), ErrorCode::MissingDate),
            (v1.set("date", Some("yesterday")), ErrorCode::InvalidDateFormat),
            (v4.set("x-log-date", Some("2026-11-23T09:33")), ErrorCode::InvalidDateFormat),
            (v1.set("x-log-signaturemethod", None), ErrorCode::MissingSignatureMethod),
            (v1.set("x-log-signaturemethod", Some("md5")), ErrorCode::InvalidSignatureMethod),
            (v1.set("content-md5", None), ErrorCode::SignatureNotMatch),
            (v4.set("x-log-content-sha256", None), ErrorCode::SignatureNotMatch),
            (v1.set("authorization", Some("LOG ak-id:?")), ErrorCode::SignatureNotMatch),
            (v1.set("authorization", Some("LOG ak-id:")), ErrorCode::SignatureNotMatch),
        ];
        for (sent, code) in cases {
            assert_eq!(sent.verify("ak-secret", NOVEMBER_23).unwrap_err().code(), code);
        }
        let header = "SLS4-HMAC-SHA256 Credential=ak-id/20261122/local/sls/aliyun_v4_request,Signature=00";
        let other_day = v4.set("authorization", Some(header));
        assert_eq!(other_day.verify("ak-secret", NOVEMBER_23), Err(SignatureError::Scope));
        assert_eq!(SignatureError::UnknownForm.code(), ErrorCode::Unauthorized);
    }

    #[test]
    fn rejects_unknown_authorization_forms() {
        for header in [
            "",
            "LOG",
            "Bearer x",
            "LOG id",
            "SLS4-HMAC-SHA256 Credential=id/20261123/r/oss/aliyun_v4_request,Signature=00",
            "SLS4-HMAC-SHA256 Credential=id/20261123/r/sls/aliyun_v4_request/more,Signature=00",
            "SLS4-HMAC-SHA256 Credential=id/20261123/r/sls/aliyun_v4_request",
            "SLS4-HMAC-SHA256 Signature=00",
        ] {
            assert_eq!(Authorization::parse(header), Err(SignatureError::UnknownForm), "{header}");
        }
        for header in
            ["LOG :c2ln", "SLS4-HMAC-SHA256 Credential=/20261123/r/sls/aliyun_v4_request,Signature=00"]
        {
            assert_eq!(Authorization::parse(header), Err(SignatureError::MissingKeyId), "{header}");
        }
    }
}
