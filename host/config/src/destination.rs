//! Destinations of objects, as the settings name them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::function::FunctionConfig;
use crate::object_store::ObjectStoreConfig;

/// A destination of objects. Rules name it, and add the bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// A directory of the service. Its folders are the buckets.
    Directory {
        /// The path of the directory.
        path: PathBuf,
    },
    /// Amazon S3, or a compatible store.
    S3(ObjectStoreConfig),
    /// Alibaba Cloud OSS.
    Oss(ObjectStoreConfig),
    /// Functions that the service calls with logs, and that make the objects.
    Function(FunctionConfig),
}

impl DestinationConfig {
    /// Returns the path of the file or directory in the settings.
    pub fn file(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Directory { path } => Some(path),
            Self::S3(remote) | Self::Oss(remote) => remote.ca.as_mut(),
            Self::Function(function) => function.ca.as_mut(),
        }
    }
}
