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
    for header in ["LOG :c2ln", "SLS4-HMAC-SHA256 Credential=/20261123/r/sls/aliyun_v4_request,Signature=00"]
    {
        assert_eq!(Authorization::parse(header), Err(SignatureError::MissingKeyId), "{header}");
    }
}
