//! Receivers of events, as the settings name them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hec::HecConfig;
use crate::syslog::SyslogConfig;

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ReceiverConfig {
    /// Splunk's HTTP Event Collector, or a compatible receiver.
    Hec(HecConfig),
    /// Syslog over UDP, TCP or TLS.
    Syslog(SyslogConfig),
}

impl ReceiverConfig {
    /// Returns the built-in formatter for this receiver.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Hec(_) => "siem-hec",
            Self::Syslog(_) => "siem-syslog",
        }
    }

    /// Returns the paths of files in the settings.
    pub fn files(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Hec(settings) => settings.ca.iter_mut().collect(),
            Self::Syslog(settings) => {
                let SyslogConfig { ca, certificate, key, .. } = settings;
                [ca, certificate, key].into_iter().flatten().collect()
            }
        }
    }
}
