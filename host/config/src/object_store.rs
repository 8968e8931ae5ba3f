//! Address and credentials of an object store.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::limit::TIMEOUT_SECONDS;
use crate::secret::{Secret, SecretPaths};

/// An object store: S3 or OSS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ObjectStoreConfig {
    /// The URL of the store, without the bucket: `https://oss-cn-hangzhou.aliyuncs.com`. Required for OSS. Default for
    /// S3: Amazon's.
    pub endpoint: String,
    /// The region of the request signatures. S3 only. Default: `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The place of the bucket's name in URLs. Default: `path` for S3, `virtual` for OSS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,
    /// The ID of the access key. Default: the environment's credentials, from variables, profiles or the machine's
    /// role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The secret of the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<Secret>,
    /// The security token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<Secret>,
    /// The role to assume with the key, unless the rule names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The external ID that the role's owner requires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<Secret>,
    /// The endpoint of the security token service. OSS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// The URL of a proxy. It may have a password. Default: the environment's proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// A file with PEM certificates of additional trusted authorities. Not allowed in a rule's own destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// True if the store supports conditional writes (`If-None-Match: *`). Default: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<bool>,
    /// The checksum of each upload and part, which the store compares with the bytes that it got. Buckets with Object
    /// Lock require one. Default: `crc32c` for S3, `md5` for OSS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// The read timeout of a request, in seconds. A part of 8 MiB must be sent within it. Default: `60`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = TIMEOUT_SECONDS.min, max = TIMEOUT_SECONDS.max))]
    pub timeout_seconds: Option<u64>,
    /// Server-side encryption of objects: `AES256` or `KMS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The ID of the KMS key for `encryption`. Default: the store's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

impl ObjectStoreConfig {
    /// Returns the first setting that is masked.
    pub fn masked_secret(&self) -> Option<String> {
        SecretPaths::of::<Self>().first_masked(&json!(self))
    }
}

/// The checksum of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// CRC-32C, in `x-amz-checksum-crc32c`. S3 only. The store keeps it with the object.
    Crc32c,
    /// MD5, in `Content-MD5`. For stores that are compatible with S3 and reject newer checksums.
    Md5,
    /// No checksum.
    None,
}

/// The addressing style of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// In the host name: `https://BUCKET.s3.example.org/KEY`.
    Virtual,
    /// In the path: `https://s3.example.org/BUCKET/KEY`.
    Path,
}
