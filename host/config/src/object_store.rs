//! Address and credentials of an object store.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Address and credentials of an object store.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ObjectStoreConfig {
    /// URL of the store, without the bucket: `https://oss-cn-hangzhou.aliyuncs.com`.
    pub endpoint: String,
    /// Region of the request signatures. S3 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Addressing style: the bucket in the host name (`virtual`, required by OSS) or in the path (`path`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,
    /// Id of the access key. Default: the environment's credentials, from variables, profiles or the
    /// machine's role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Secret of the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<String>,
    /// Security token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<String>,
    /// The role to assume with the key, unless the rule names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// External id that the role's owner requires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Endpoint of the security token service. OSS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// URL of a proxy. Default: the environment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// File with PEM certificates of additional trusted authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// True if the store supports conditional writes (`If-None-Match: *`). Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<bool>,
    /// Read timeout of a request, in seconds. An 8 MiB part must be sent within it. Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Server-side encryption of objects: `AES256` or `KMS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The encryption key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

/// The addressing style of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// In the host name.
    Virtual,
    /// In the path.
    Path,
}

/// Omits the secrets, so that they never appear in logs.
impl fmt::Debug for ObjectStoreConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("ObjectStoreConfig");
        debug.field("endpoint", &self.endpoint).field("access_key_id", &self.access_key_id);
        debug.field("role", &self.role).finish_non_exhaustive()
    }
}
