//! Settings of a HEC receiver.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Splunk's HTTP Event Collector, or a compatible receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(extend("required" = ["urls"]))]
pub struct HecConfig {
    /// URLs without a path: `https://splunk.example.org:8088`. Requests are distributed round robin over all URLs that
    /// accept events.
    pub urls: Vec<String>,
    /// The token of the collector. Required, here or in the option `--token` of `logship consume`.
    pub token: Secret,
    /// The largest request, in bytes of events before compression. Splunk's default limit is 1 MB.
    #[schemars(range(min = 1))]
    pub batch_bytes: usize,
    /// The number of concurrent requests.
    #[schemars(range(min = 1))]
    pub requests: usize,
    /// True to compress requests with gzip.
    pub gzip: bool,
    /// True to confirm events only after Splunk has indexed them (indexer acknowledgement).
    pub acknowledge: bool,
    /// The timeout of an acknowledgement, in seconds. Events are resent after it.
    pub acknowledge_seconds: u64,
    /// The timeout of a request, in seconds.
    #[schemars(range(min = 1))]
    pub timeout_seconds: u64,
    /// A file with trusted CA certificates (PEM), in addition to the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// True to verify the receiver's certificate.
    pub verify: bool,
}

impl Default for HecConfig {
    fn default() -> Self {
        Self {
            urls: vec![],
            token: Secret::default(),
            batch_bytes: 1_000_000,
            requests: 8,
            gzip: true,
            acknowledge: false,
            acknowledge_seconds: 300,
            timeout_seconds: 120,
            ca: None,
            verify: true,
        }
    }
}
