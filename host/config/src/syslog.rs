//! Settings of a syslog receiver.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of a syslog receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SyslogConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Framing of messages in a stream.
    pub framing: Framing,
    /// Delivery confirmation over TCP and TLS.
    pub confirm: Confirm,
    /// Timeout of connecting, of progress in sending, and of the confirmation, in seconds.
    pub timeout_seconds: u64,
    /// The largest message, in bytes. Larger ones become dead letters. Default: 8192 over UDP, unlimited otherwise.
    /// Receivers truncate or drop messages above their own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Rate limit over UDP, in messages per second; 0: unlimited. UDP has no flow control.
    pub rate: u32,
    /// Concurrent connections over TCP and TLS with `confirm = "close"`. A shard uses one at a time.
    pub connections: usize,
    /// File with trusted CA certificates (PEM), instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// File with the client certificate (PEM), followed by its issuers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// File with the client certificate's private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Expected name in the receiver's certificate; `host` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 514,
            protocol: Protocol::default(),
            framing: Framing::default(),
            confirm: Confirm::default(),
            timeout_seconds: 120,
            max_bytes: None,
            rate: 0,
            connections: 16,
            ca: None,
            certificate: None,
            key: None,
            server_name: None,
        }
    }
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// One datagram per message. Losses are not detected.
    Udp,
    /// A TCP stream.
    #[default]
    Tcp,
    /// A TLS stream (RFC 5425).
    Tls,
}

/// Framing of messages in a stream (RFC 6587).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// A length prefix for each message.
    #[default]
    OctetCounting,
    /// A line feed after each message. A message that contains a line feed becomes a dead letter.
    Newline,
}

/// Delivery confirmation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// The receiver has closed its side of the connection.
    #[default]
    Close,
    /// The receiver's TCP stack has acknowledged the bytes. Bytes that the program has not read are lost if it dies.
    Sent,
}
