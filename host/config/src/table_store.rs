//! Address and credentials of an instance of Table Store.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limit::TIMEOUT_SECONDS;
use crate::secret::{Secret, SecretPaths};

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
    /// Returns true if both are the same instance, possibly with other credentials.
    pub fn is_same_instance(&self, other: &Self) -> bool {
        (&self.endpoint, &self.instance) == (&other.endpoint, &other.instance)
    }

    /// Returns the first setting that is masked.
    pub fn masked_secret(&self) -> Option<String> {
        SecretPaths::of::<Self>().first_masked(&serde_json::to_value(self).unwrap_or_default())
    }
}
