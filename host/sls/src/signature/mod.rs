//! Who sent a request: signing it, and checking that it was signed.
//!
//! [`v1`] is what clients do by default, [`v4`] what they do when they are told so. The server reads
//! [`Authorization`], looks for the secret of its key id, and asks [`Authorization::verify`].
//!
//! # Where clients differ
//! - A path with characters that a URL can't have is signed decoded by Python and as sent by Go. Either is accepted.
//! - Python sends `x-log-date` in version 1 too, but adds it after signing; others don't send it. A signature with it
//!   and one without are accepted. It is the date of a request whose `Date` got lost on the way, for which Python
//!   sends it.

mod error;
pub mod v1;
pub mod v4;

pub use error::SignatureError;

use percent_encoding::percent_decode_str;

/// What a signature is about. Names of headers are lower-case.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// GET, POST, ...
    pub method: &'a str,
    /// The path as it was sent, without the query.
    pub path: &'a str,
    /// The query's keys and values, decoded.
    pub query: &'a [(String, String)],
    /// Lower-case names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body as it is sent: compressed.
    pub body: &'a [u8],
}

/// What signs: an id, and the secret that only its owner and the server know.
#[derive(Clone, Copy)]
pub struct AccessKey<'a> {
    /// The id.
    pub id: &'a str,
    /// The secret.
    pub secret: &'a str,
}

/// What the Authorization header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Whose secret signed it.
    pub key_id: String,
    /// The signature.
    pub scheme: Scheme,
}

/// How a request was signed.
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
        /// The region that the signature is for.
        region: String,
        /// HMAC-SHA256 in hexadecimal.
        signature: String,
    },
}

/// How far a request's date may be from the server's, in seconds.
const MOST_SKEWED: u64 = 15 * 60;

impl Authorization {
    /// Reads the value of an Authorization header.
    ///
    /// # Errors
    /// When it is of no known form, or has no key id.
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

    /// Checks that whoever has `secret` signed `request`, with all of its body, within 15 minutes of `now`, Unix time
    /// in seconds.
    ///
    /// # Errors
    /// When it can't be so.
    pub fn verify(&self, secret: &str, request: &Request<'_>, now: u64) -> Result<(), SignatureError> {
        self.verify_head(secret, request, now)?;
        self.verify_body(request)
    }

    /// The first half of [`verify`](Self::verify), before the body is there: its hash is among the headers that were
    /// signed. So nobody's body need be received who hasn't the secret.
    ///
    /// # Errors
    /// When it can't be so.
    pub fn verify_head(&self, secret: &str, request: &Request<'_>, now: u64) -> Result<(), SignatureError> {
        match &self.scheme {
            Scheme::V1 { signature } => v1::verify(signature, secret, request, now),
            Scheme::V4 { date, region, signature } => {
                v4::verify(&v4::Scope { date, region }, signature, secret, request, now)
            }
        }
    }

    /// The other half of [`verify`](Self::verify): that the body is the one of the head.
    ///
    /// # Errors
    /// When it is another one.
    pub fn verify_body(&self, request: &Request<'_>) -> Result<(), SignatureError> {
        match &self.scheme {
            Scheme::V1 { .. } => v1::check_body(request),
            Scheme::V4 { .. } => v4::check_body(request),
        }
    }
}

impl<'a> Request<'a> {
    /// The value of a header, by its lower-case name.
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The headers that both versions sign, sorted.
    fn log_headers(&self) -> Vec<(&'a str, &'a str)> {
        let is_signed = |name: &str| {
            name.starts_with("x-acs-") || (name.starts_with("x-log-") && !name.starts_with("x-log-meta-"))
        };
        let mut headers: Vec<_> = self.headers.iter().copied().filter(|(name, _)| is_signed(name)).collect();
        headers.sort_unstable();
        headers
    }

    /// The query's pairs, sorted by their keys.
    fn sorted_query(&self) -> Vec<(&'a str, &'a str)> {
        let mut pairs: Vec<_> = self.query.iter().map(|(key, value)| (&**key, &**value)).collect();
        pairs.sort_by_key(|(key, _)| *key);
        pairs
    }

    /// The forms of the path that may have been signed.
    fn paths(&self) -> Vec<String> {
        let sent = self.path.to_owned();
        match percent_decode_str(self.path).decode_utf8() {
            Ok(decoded) if decoded != self.path => vec![decoded.into_owned(), sent],
            _ => vec![sent],
        }
    }
}

fn check_skew(date: &str, time: u64, now: u64) -> Result<(), SignatureError> {
    let seconds = time.abs_diff(now);
    if seconds <= MOST_SKEWED { Ok(()) } else { Err(SignatureError::Skewed { date: shorten(date), seconds }) }
}

fn not_match(signature: &str) -> SignatureError {
    SignatureError::NotMatch { signature: shorten(signature) }
}

/// No more of a stranger's text than fits into a message.
fn shorten(text: &str) -> String {
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

    fn headers(own: &[(&'static str, &str)]) -> Headers {
        own.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    fn authorization(headers: &Headers) -> Authorization {
        let header = headers.iter().find(|(name, _)| *name == "authorization").unwrap();
        Authorization::parse(&header.1).unwrap()
    }

    /// A request with its own memory, to be changed.
    #[derive(Clone)]
    struct Sent {
        method: &'static str,
        path: &'static str,
        query: &'static str,
        headers: Headers,
        body: &'static [u8],
    }

    impl Sent {
        fn with<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
            let query = Query::parse(self.query).unwrap();
            let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let Self { method, path, body, .. } = *self;
            look(&Request { method, path, query: query.pairs(), headers: &headers, body })
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

    /// The request of the wire reference.
    fn checkpoint() -> Sent {
        Sent {
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

    fn signed_v1() -> Sent {
        let mut sent = checkpoint();
        let key = AccessKey { id: "ak-id", secret: "ak-secret" };
        let added = sent.with(|request| v1::sign(&key, request, NOVEMBER_23));
        sent.headers.extend(added);
        sent
    }

    fn signed_v4() -> Sent {
        let mut sent = checkpoint();
        let key = AccessKey { id: "ak-id", secret: "ak-secret" };
        let added = sent.with(|request| v4::sign(&key, "local", request, NOVEMBER_23));
        sent.headers.extend(added);
        sent
    }

    #[test]
    fn version_1_signs_as_the_wire_reference() {
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
    fn version_4_signs_as_the_wire_reference() {
        let sent = signed_v4();
        let signature = "073732644f77958bab91a2155476a258eb5a358e1d9576f53bf41e1c400d6696";
        let expected = format!(
            "SLS4-HMAC-SHA256 Credential=ak-id/20261123/local/sls/aliyun_v4_request,Signature={signature}"
        );
        assert_eq!(sent.headers[3], ("x-log-date", "20261123T093321Z".to_owned()));
        assert_eq!(sent.headers[5], ("authorization", expected));
        assert_eq!(sent.verify("ak-secret", NOVEMBER_23), Ok(()));
    }

    /// What aliyun-log-python-sdk 0.9.52 and its HTTP library send: made by running them.
    fn python(authorization: &[(&'static str, &str)]) -> Sent {
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
        Sent {
            method: "POST",
            path: "/logstores/my%20store/shards/a~b%25c",
            query: "key=a+b%2Bc%26d%3De%2F%C3%BC~%2A&empty=&Upper=True&n=7",
            headers: all,
            body: "{\"q\": \"größer\"}".as_bytes(),
        }
    }

    #[test]
    fn what_the_python_sdk_signed_passes() {
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
        // The date got lost on the way, for which the SDK sends it twice.
        let without_date = v1.set("date", None);
        for sent in [v1, v4, without_date] {
            assert_eq!(sent.verify("Sécret/key+1", NOVEMBER_20 + 900), Ok(()));
            assert!(matches!(sent.verify("Secret/key+1", NOVEMBER_20), Err(SignatureError::NotMatch { .. })));
        }
    }

    #[test]
    fn version_1_passes_if_the_extra_date_was_signed_too() {
        let mut sent = checkpoint().set("x-log-date", Some("Mon, 23 Nov 2026 09:33:21 GMT"));
        let key = AccessKey { id: "ak-id", secret: "ak-secret" };
        let added = sent.with(|request| v1::sign(&key, request, NOVEMBER_23));
        sent.headers.extend(added);
        assert_eq!(sent.verify("ak-secret", NOVEMBER_23), Ok(()));
    }

    #[test]
    fn whatever_is_changed_is_found() {
        for sent in [signed_v1(), signed_v4()] {
            let scheme = authorization(&sent.headers).scheme;
            let changed = [
                Sent { method: "PUT", ..sent.clone() },
                Sent { path: "/logstores/ls/consumergroups/cg2", ..sent.clone() },
                Sent { query: "type=checkpoint&consumer=c+2&forceSuccess=True", ..sent.clone() },
                Sent { query: "type=checkpoint&consumer=c+1", ..sent.clone() },
                Sent { body: b"{}", ..sent.clone() },
                Sent { body: b"", ..sent.clone() },
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
    fn each_fault_has_the_code_of_log_service() {
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
    fn headers_of_other_forms_are_refused() {
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
