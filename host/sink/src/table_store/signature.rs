//! Signatures of requests, version 2 and 4, and of answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use logship_config::table_store::TableStoreConfig;
use md5::{Digest, Md5};
use reqsign_core::hash::{base64_hmac_sha1, base64_hmac_sha256, hmac_sha256};
use sha1::Sha1;

/// The prefix of signed headers.
const PREFIX: &str = "x-ots-";

/// A request's headers, and the key that its answer is signed with.
pub(super) struct Signed {
    pub(super) headers: Vec<(&'static str, String)>,
    key: Vec<u8>,
}

/// The time of a request, as its headers have it.
pub(super) struct SigningTime {
    /// `2026-11-30T04:37:13.000Z`
    pub(super) date: String,
    /// `20261130`
    pub(super) day: String,
}

/// Signs a request.
pub(super) fn sign(config: &TableStoreConfig, path: &str, body: &[u8], time: SigningTime) -> Signed {
    let secret = config.access_key_secret.expose();
    let mut headers = vec![
        ("x-ots-date", time.date),
        ("x-ots-apiversion", "2015-12-31".to_owned()),
        ("x-ots-accesskeyid", config.access_key_id.clone()),
        ("x-ots-instancename", config.instance.clone()),
        ("x-ots-contentmd5", content_md5(body)),
    ];
    if let Some(token) = &config.security_token {
        headers.push(("x-ots-ststoken", token.expose().to_owned()));
    }
    let Some(region) = &config.region else {
        let signature = base64_hmac_sha1(secret.as_bytes(), request_text(path, &headers).as_bytes());
        headers.push(("x-ots-signature", signature));
        return Signed { headers, key: secret.as_bytes().to_vec() };
    };
    let key = key_v4(secret, &time.day, region);
    headers.push(("x-ots-signdate", time.day));
    headers.push(("x-ots-signregion", region.clone()));
    let text = format!("{}ots", request_text(path, &headers));
    headers.push(("x-ots-signaturev4", base64_hmac_sha256(&key, text.as_bytes())));
    Signed { headers, key }
}

impl Signed {
    /// Returns true if an answer has the signature of somebody who knows the key, and the digest of its body. `headers`
    /// are those of the answer, in lower case.
    pub(super) fn is_genuine<'a>(
        &self,
        path: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> bool {
        let (mut signed, mut authorization, mut digest) = (vec![], None, None);
        for (name, value) in headers {
            if name == "authorization" {
                authorization = value.rsplit_once(':').map(|(_, signature)| signature);
            } else if name.starts_with(PREFIX) {
                if name == "x-ots-contentmd5" {
                    digest = Some(value);
                }
                signed.push((name, value));
            }
        }
        let Some(signature) = authorization.and_then(|text| STANDARD.decode(text).ok()) else { return false };
        let text = format!("{}\n{path}", header_lines(&signed));
        let mut expected = Hmac::<Sha1>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        expected.update(text.as_bytes());
        expected.verify_slice(&signature).is_ok() && digest == Some(content_md5(body).as_str())
    }
}

/// Returns the digest of a body, as headers have it.
fn content_md5(body: &[u8]) -> String {
    STANDARD.encode(Md5::digest(body))
}

fn request_text(path: &str, headers: &[(&str, String)]) -> String {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    format!("{path}\nPOST\n\n{}\n", header_lines(&headers))
}

fn header_lines(headers: &[(&str, &str)]) -> String {
    let mut lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{}", value.trim())).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Returns the key of signatures of version 4, which is a text.
fn key_v4(secret: &str, day: &str, region: &str) -> Vec<u8> {
    let mut key = format!("aliyun_v4{secret}").into_bytes();
    for part in [day, region, "ots", "aliyun_v4_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    STANDARD.encode(key).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(region: Option<&str>) -> TableStoreConfig {
        TableStoreConfig {
            instance: "inst".into(),
            access_key_id: "AK".into(),
            access_key_secret: "secret".into(),
            security_token: Some("token".into()),
            region: region.map(str::to_owned),
            ..TableStoreConfig::default()
        }
    }

    fn time() -> SigningTime {
        SigningTime { date: "2026-11-30T04:37:13.000Z".into(), day: "20261130".into() }
    }

    /// Signatures that the vendor's client makes for the same requests.
    #[test]
    fn signatures_are_those_of_the_vendor() {
        for (region, header, expected) in [
            (None, "x-ots-signature", "/mNuLTCJH/1RdXvv6sabSY3GV1w="),
            (Some("cn-hangzhou"), "x-ots-signaturev4", "DrEaRCeRhIt2rILXmTFWbHtU4ntX6DQr6rWJffYmmiQ="),
        ] {
            let signed = sign(&config(region), "/ListTable", b"", time());
            assert_eq!(
                signed.headers.last().map(|(name, value)| (*name, value.as_str())),
                Some((header, expected))
            );
        }
    }

    #[test]
    fn answers_need_signature_and_digest() {
        for region in [None, Some("cn-hangzhou")] {
            let signed = sign(&config(region), "/ListTable", b"", time());
            let digest = content_md5(b"body");
            let mut headers = vec![("x-ots-requestid", "1"), ("x-ots-contentmd5", digest.as_str())];
            let text = format!("{}\n/ListTable", header_lines(&headers));
            let authorization = format!("OTS AK:{}", base64_hmac_sha1(&signed.key, text.as_bytes()));
            headers.push(("authorization", &authorization));
            assert!(signed.is_genuine("/ListTable", headers.iter().copied(), b"body"));
            assert!(!signed.is_genuine("/ListTable", headers.iter().copied(), b"bodi"));
            assert!(!signed.is_genuine("/PutRow", headers.iter().copied(), b"body"));
            headers[0].1 = "2";
            assert!(!signed.is_genuine("/ListTable", headers.iter().copied(), b"body"));
            assert!(!signed.is_genuine("/ListTable", std::iter::empty(), b"body"));
        }
    }
}
