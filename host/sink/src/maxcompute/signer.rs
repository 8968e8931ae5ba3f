//! Signatures of requests to the service and to Tunnel: version 2, and version 4 with a region.

use std::fmt::Write as _;

use reqsign_aliyun_oss::Credential;
use reqsign_core::hash::{base64_hmac_sha1, hmac_sha256};

/// Headers whose value is signed without the name. They are signed as empty if they are absent.
const BARE: [&str; 3] = ["content-md5", "content-type", "date"];

/// The request to sign. All parts are decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// The path without the one of the endpoint.
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, String)],
    /// All headers, with names in lower case. Only some are signed.
    pub(super) headers: &'a [(&'static str, String)],
}

impl Signed<'_> {
    /// Returns the value of the header `Authorization`. `date` is `YYYYMMDD` in UTC.
    pub(super) fn authorization(&self, key: &Credential, region: Option<&str>, date: &str) -> String {
        let (id, secret, text) = (&key.access_key_id, &key.access_key_secret, self.text());
        match region {
            None => format!("ODPS {id}:{}", base64_hmac_sha1(secret.as_bytes(), text.as_bytes())),
            Some(region) => {
                let scope = [date, region, "odps", "aliyun_v4_request"];
                let secret = format!("aliyun_v4{secret}").into_bytes();
                let key = scope.iter().fold(secret, |key, part| hmac_sha256(&key, part.as_bytes()));
                // The last step has SHA-1, in all of the vendor's clients.
                format!("ODPS {id}/{}:{}", scope.join("/"), base64_hmac_sha1(&key, text.as_bytes()))
            }
        }
    }

    /// The text to sign.
    fn text(&self) -> String {
        let mut lines: Vec<(&str, &str)> = BARE.iter().map(|name| (*name, "")).collect();
        for (name, value) in self.headers {
            match lines.iter_mut().find(|(bare, _)| bare == name) {
                Some(line) => line.1 = value,
                None if name.starts_with("x-odps-") => lines.push((name, value)),
                None => {}
            }
        }
        let of_query = self.query.iter().filter(|(name, _)| name.starts_with("x-odps-"));
        lines.extend(of_query.map(|(name, value)| (*name, value.as_str())));
        lines.sort_unstable();
        let mut text = self.method.to_owned();
        for (name, value) in lines {
            let is_bare = BARE.contains(&name);
            let _ = if is_bare { write!(text, "\n{value}") } else { write!(text, "\n{name}:{value}") };
        }
        let _ = write!(text, "\n{}", self.path);
        let mut query: Vec<_> = self.query.iter().collect();
        query.sort_unstable();
        for (index, (name, value)) in query.into_iter().enumerate() {
            let before = if index == 0 { '?' } else { '&' };
            let _ = match value.as_str() {
                "" => write!(text, "{before}{name}"),
                value => write!(text, "{before}{name}={value}"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Credential {
        Credential { access_key_id: "ak".into(), access_key_secret: "sk".into(), ..Credential::default() }
    }

    #[test]
    fn signatures_equal_those_of_the_vendors_client() {
        let query = [
            ("uploads", String::new()),
            ("curr_project", "p".into()),
            ("partition", "pt=20261201".to_owned()),
        ];
        let headers = [
            ("x-odps-tunnel-version", "6".to_owned()),
            ("odps-tunnel-date-transform", "v1".to_owned()),
            ("date", "Mon, 30 Nov 2026 04:34:32 GMT".to_owned()),
        ];
        let signed =
            Signed { method: "POST", path: "/projects/p/tables/tab", query: &query, headers: &headers };
        let text = "POST\n\n\nMon, 30 Nov 2026 04:34:32 GMT\nx-odps-tunnel-version:6\n/projects/p/tables/tab?curr_project=p&partition=pt=20261201&uploads";
        assert_eq!(signed.text(), text);
        let authorization = |region| signed.authorization(&key(), region, "20261130");
        assert_eq!(authorization(None), "ODPS ak:aMeAhhFvhObbGcKV3RDO+R+rjkM=");
        assert_eq!(
            authorization(Some("cn-hangzhou")),
            "ODPS ak/20261130/cn-hangzhou/odps/aliyun_v4_request:ut6DVrDWu9EE+4/5Rz5jEErIizM="
        );
    }

    #[test]
    fn query_parameters_of_odps_are_signed_like_headers() {
        let query = [("x-odps-b", "2".to_owned())];
        let headers = [("content-type", "application/xml".to_owned()), ("x-odps-a", "1".to_owned())];
        let signed = Signed { method: "GET", path: "/p", query: &query, headers: &headers };
        assert_eq!(signed.text(), "GET\n\napplication/xml\n\nx-odps-a:1\nx-odps-b:2\n/p?x-odps-b=2");
    }
}
