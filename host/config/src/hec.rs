//! Settings of a HEC receiver.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// HecConfig of a HEC receiver.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HecConfig {
    /// URLs without a path: `https://splunk.example.org:8088`. Requests are distributed round robin over all URLs that
    /// accept events.
    pub urls: Vec<String>,
    /// The token.
    pub token: String,
    /// Bytes of events in a request, before compression. Splunk's default limit is 1 MB.
    pub batch_bytes: usize,
    /// Concurrent requests.
    pub requests: usize,
    /// True to compress requests with gzip.
    pub gzip: bool,
    /// True to confirm events only after Splunk has indexed them (indexer acknowledgement).
    pub acknowledge: bool,
    /// Timeout of an acknowledgement, in seconds. Events are resent after it.
    pub acknowledge_seconds: u64,
    /// Timeout of a request, in seconds.
    pub timeout_seconds: u64,
    /// File with trusted CA certificates (PEM), in addition to the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// True to verify certificates.
    pub verify: bool,
}

impl Default for HecConfig {
    fn default() -> Self {
        Self {
            urls: vec![],
            token: String::new(),
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

/// Keeps the token out of logs.
impl fmt::Debug for HecConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HecConfig").field("urls", &self.urls).finish_non_exhaustive()
    }
}
