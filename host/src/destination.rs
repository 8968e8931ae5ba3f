//! Destinations of objects, as the settings name them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bucket::ObjectStoreConfig;
use crate::executor::FunctionConfig;

/// A destination in the settings. A rule adds the bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// A directory: its folders are the buckets.
    Directory {
        /// Path of the directory.
        path: PathBuf,
    },
    /// Amazon S3, or a compatible store.
    S3(ObjectStoreConfig),
    /// Alibaba Cloud OSS.
    Oss(ObjectStoreConfig),
    /// Functions that are called with the logs.
    Function(FunctionConfig),
}

impl DestinationConfig {
    /// True if the configuration contains a secret.
    pub(crate) fn has_secret(&self) -> bool {
        match self {
            Self::Directory { .. } => false,
            Self::S3(remote) | Self::Oss(remote) => {
                remote.access_key_secret.is_some()
                    || remote.security_token.is_some()
                    || remote.encryption_key.is_some()
            }
            Self::Function(function) => function.token.is_some(),
        }
    }
}
