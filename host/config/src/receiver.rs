//! Receivers of events, as the settings name them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hec::HecConfig;
use crate::syslog::SyslogConfig;

/// Settings of a receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ReceiverConfig {
    /// Splunk's HTTP Event Collector, or a compatible receiver.
    Hec(HecConfig),
    /// Syslog over UDP, TCP or TLS.
    Syslog(SyslogConfig),
}

impl ReceiverConfig {
    /// The built-in formatter for this receiver.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Hec(_) => "siem-hec",
            Self::Syslog(_) => "siem-syslog",
        }
    }

    /// True if the settings contain a token.
    pub fn has_secret(&self) -> bool {
        matches!(self, Self::Hec(settings) if !settings.token.is_empty())
    }

    /// The settings' file paths, which are relative to the settings file.
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
