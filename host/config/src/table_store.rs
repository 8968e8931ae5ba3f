//! Address and credentials of an instance of Table Store.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::{check_endpoint, check_header_part, check_timeout};
use crate::error::SourceError;
use crate::limit::TIMEOUT_SECONDS;
use crate::secret::Secret;

/// An instance of Alibaba Cloud Table Store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["endpoint", "instance", "access-key-id", "access-key-secret"]))]
pub struct TableStoreConfig {
    /// The URL of the instance: `https://INSTANCE.cn-hangzhou.ots.aliyuncs.com`.
    pub endpoint: String,
    /// The name of the instance.
    pub instance: String,
    /// The region of request signatures of version 4: `cn-hangzhou`. Default: requests are signed with version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The ID of the access key.
    pub access_key_id: String,
    /// The secret of the access key.
    pub access_key_secret: Secret,
    /// The security token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<Secret>,
    /// The URL of a proxy. It may have a password. Default: the environment's proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// A file with PEM certificates of additional trusted authorities. Not allowed in a rule's own connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The read timeout of a request, in seconds. Default: `30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = TIMEOUT_SECONDS.min, max = TIMEOUT_SECONDS.max))]
    pub timeout_seconds: Option<u64>,
}

impl TableStoreConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The first invalid one.
    pub fn check(&self) -> Result<(), SourceError> {
        check_endpoint("endpoint", &self.endpoint, false)?;
        let is_label = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if self.instance.is_empty() {
            return Err(SourceError::field("instance", "is missing: name the instance of Table Store"));
        }
        if !self.instance.chars().all(is_label) {
            return Err(SourceError::field("instance", "is invalid: use letters, digits and -"));
        }
        if self.region.as_ref().is_some_and(|region| region.is_empty() || !region.chars().all(is_label)) {
            return Err(SourceError::field("region", "is invalid: use the region's id, such as cn-hangzhou"));
        }
        for (field, value) in [
            ("access-key-id", Some(self.access_key_id.as_str())),
            ("access-key-secret", Some(self.access_key_secret.expose())),
            ("security-token", self.security_token.as_ref().map(Secret::expose)),
        ] {
            if value == Some("") {
                return Err(SourceError::field(field, "is missing"));
            }
            value.map_or(Ok(()), |value| check_header_part(field, value))?;
        }
        check_timeout(self.timeout_seconds)
    }

    /// Returns true if both are the same instance, possibly with other credentials.
    pub fn is_same_instance(&self, other: &Self) -> bool {
        (&self.endpoint, &self.instance) == (&other.endpoint, &other.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_each_value() {
        let right = TableStoreConfig {
            endpoint: "https://inst.cn-hangzhou.ots.aliyuncs.com".into(),
            instance: "inst".into(),
            access_key_id: "id".into(),
            access_key_secret: "secret".into(),
            ..TableStoreConfig::default()
        };
        right.check().unwrap();
        let problem = |change: fn(&mut TableStoreConfig)| {
            let mut config = right.clone();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(
            problem(|config| config.endpoint = "inst.ots.aliyuncs.com".into()).contains("https://inst.ots")
        );
        assert!(problem(|config| config.instance.clear()).starts_with("instance is missing"));
        assert!(problem(|config| config.instance = "a/b".into()).starts_with("instance is invalid"));
        assert!(problem(|config| config.region = Some(String::new())).starts_with("region is invalid"));
        assert!(problem(|config| config.access_key_id.clear()).starts_with("access-key-id is missing"));
        assert!(
            problem(|config| config.access_key_secret = "s\nx".into()).starts_with("access-key-secret has")
        );
        assert!(
            problem(|config| config.security_token = Some("".into()))
                .starts_with("security-token is missing")
        );
        assert!(
            problem(|config| config.timeout_seconds = Some(0)).starts_with("timeout-seconds is out of range")
        );
        assert!(!format!("{right:?}").contains("\"secret\""));
    }
}
