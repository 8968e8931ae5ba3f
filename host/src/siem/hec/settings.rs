use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of a HEC receiver.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// URLs, without a path: `https://splunk.example.org:8088`. With several, requests go to each in turn, and to none
    /// that does not take them.
    pub urls: Vec<String>,
    /// The token.
    pub token: String,
    /// Bytes of events in a request, before compression. Splunk takes 1 MB unless it is set otherwise.
    pub batch_bytes: usize,
    /// Requests on their way at one time.
    pub requests: usize,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// Whether an event is delivered only when Splunk says that it is indexed (indexer acknowledgement).
    pub acknowledge: bool,
    /// Seconds to wait for that before the events are sent again.
    pub acknowledge_seconds: u64,
    /// Seconds to wait for the answer to a request.
    pub timeout_seconds: u64,
    /// File with certificates (PEM) of authorities to trust besides those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether certificates are verified.
    pub verify: bool,
}

impl Default for Settings {
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

/// The token is not for logs.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Settings").field("urls", &self.urls).finish_non_exhaustive()
    }
}
