//! Address and credentials of a MaxCompute project.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::{check_endpoint, check_header_part, check_timeout};
use crate::error::SourceError;
use crate::limit::TIMEOUT_SECONDS;
use crate::secret::Secret;

/// The longest name of a project or schema, in characters.
const MAX_NAME: usize = 128;

/// A MaxCompute (ODPS) project, and the key that writes to its tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["endpoint", "project"]))]
pub struct MaxComputeConfig {
    /// The URL of the service, with its path: `https://service.cn-hangzhou.maxcompute.aliyun.com/api`.
    pub endpoint: String,
    /// The name of the project.
    pub project: String,
    /// The schema of the tables. Only for projects with schemas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The URL of the Tunnel server, which takes the rows. Default: the one that the service names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_endpoint: Option<String>,
    /// The region of the request signatures, such as `cn-hangzhou`: they have version 4 then. Default: version 2, which
    /// needs no region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The account that owns the project. For information only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The Tunnel quota of the uploads. Default: the project's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// The ID of the access key. Default: the environment's credentials, from variables or the machine's role.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_key_id: String,
    /// The secret of the access key.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub access_key_secret: Secret,
    /// The security token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<Secret>,
    /// The role to assume with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The external ID that the role's owner requires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<Secret>,
    /// The endpoint of the security token service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// The format of the rows: `arrow`, or `stream` for servers without it. Default: `arrow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The compression of the uploads. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<BlockCompression>,
    /// The URL of a proxy. It may have a password. Default: the environment's proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// A file with PEM certificates of additional trusted authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The read timeout of a request, in seconds. Default: `120`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = TIMEOUT_SECONDS.min, max = TIMEOUT_SECONDS.max))]
    pub timeout_seconds: Option<u64>,
}

/// The format of a block of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Arrow record batches.
    #[default]
    Arrow,
    /// A stream of protobuf records.
    Stream,
}

/// The compression of a block of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlockCompression {
    /// zlib, level 1. Every server takes it.
    Deflate,
    /// Framed snappy.
    Snappy,
    /// Zstandard. Old servers don't take it.
    Zstd,
}

impl MaxComputeConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The first invalid one.
    pub fn check(&self) -> Result<(), SourceError> {
        check_endpoint("endpoint", &self.endpoint, true)?;
        self.tunnel_endpoint
            .as_deref()
            .map_or(Ok(()), |url| check_endpoint("tunnel-endpoint", url, false))?;
        let is_name = |name: &str| {
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_letter)
        };
        if self.project.is_empty() {
            return Err(SourceError::field("project", "is missing: name the MaxCompute project"));
        }
        for (field, name) in [("project", Some(&self.project)), ("schema", self.schema.as_ref())] {
            // The name becomes a part of URLs.
            if name.is_some_and(|name| !is_name(name)) {
                return Err(SourceError::field(field, "is invalid: use letters, digits and _"));
            }
        }
        if self.access_key_id.is_empty() != self.access_key_secret.is_empty() {
            return Err(SourceError::field("access-key-secret", "and access-key-id must be set together"));
        }
        for (field, value) in [
            ("access-key-id", Some(self.access_key_id.as_str())),
            ("security-token", self.security_token.as_ref().map(Secret::expose)),
            ("region", self.region.as_deref()),
        ] {
            value.map_or(Ok(()), |value| check_header_part(field, value))?;
        }
        check_timeout(self.timeout_seconds)
    }

    /// Returns true if both name the same tables, perhaps with other credentials.
    pub fn is_same_project(&self, other: &Self) -> bool {
        self.endpoint.trim_end_matches('/') == other.endpoint.trim_end_matches('/')
            && (&self.project, &self.schema) == (&other.project, &other.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_rejects_unknown_ones() {
        let text = "endpoint = 'http://h/api'\nproject = 'p'\naccess-key-id = 'a'\naccess-key-secret = 's'\nprotocol = 'stream'\ncompression = 'zstd'";
        let config: MaxComputeConfig = toml::from_str(text).unwrap();
        assert_eq!(
            (config.protocol, config.compression),
            (Some(Protocol::Stream), Some(BlockCompression::Zstd))
        );
        assert_eq!(config.access_key_secret.expose(), "s");
        let error = toml::from_str::<MaxComputeConfig>("endpont = 'x'").unwrap_err().to_string();
        assert!(error.contains("endpont"), "{error}");
    }

    #[test]
    fn another_key_is_the_same_project() {
        let config =
            MaxComputeConfig { endpoint: "http://h/api".into(), project: "p".into(), ..Default::default() };
        let slash = MaxComputeConfig {
            endpoint: "http://h/api/".into(),
            access_key_id: "b".into(),
            ..config.clone()
        };
        assert!(config.is_same_project(&slash));
        let other = MaxComputeConfig { schema: Some("s".into()), ..config.clone() };
        assert!(!config.is_same_project(&other));
    }
}
