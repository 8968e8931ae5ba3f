//! Settings of a syslog receiver.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Syslog over UDP, TCP or TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(extend("required" = ["host"]))]
pub struct SyslogConfig {
    /// The host name or address of the receiver.
    pub host: String,
    /// The port. The usual port for TLS is 6514.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The framing of messages over TCP and TLS.
    pub framing: Framing,
    /// The confirmation of delivery over TCP and TLS.
    pub confirm: Confirm,
    /// The timeout of connecting, of progress in sending, and of the confirmation, in seconds.
    #[schemars(range(min = 1))]
    pub timeout_seconds: u64,
    /// The largest message, in bytes. Larger messages become dead letters. Over UDP, at most 65507. Receivers truncate
    /// or drop messages above their own limit. Default: `8192` over UDP, otherwise unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// The rate limit over UDP, in messages per second; 0: unlimited. UDP has no flow control.
    pub rate: u32,
    /// The number of concurrent connections over TCP and TLS with `confirm = "close"`. A shard uses one at a time.
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// A file with trusted CA certificates (PEM), instead of the system's. TLS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A file with the client certificate (PEM), followed by its issuers. TLS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A file with the client certificate's private key (PEM). TLS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// True to verify the receiver's certificate. TLS only.
    pub verify: bool,
    /// The expected name in the receiver's certificate. Default: `host`.
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
            verify: true,
            server_name: None,
        }
    }
}

/// The transport protocol of syslog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// The framing of messages in a stream (RFC 6587).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// A length prefix for each message.
    #[default]
    OctetCounting,
    /// A line feed after each message. A message that contains a line feed becomes a dead letter.
    Newline,
}

/// The confirmation of delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// The receiver has closed its side of the connection.
    #[default]
    Close,
    /// The receiver's TCP stack has acknowledged the bytes. Bytes that the program has not read are lost if it dies.
    Sent,
}
