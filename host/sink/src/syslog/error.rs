//! Failures of syslog. The protocol has no error responses, so every failure of a connection is retried. Only messages
//! that the transport can't carry are rejected.

use std::fmt::Display;
use std::io;

use logship_config::syslog::{Framing, Protocol, SyslogConfig};

use crate::error::SinkError;
use crate::tls;

/// The message of a failure that is retried.
pub(super) type Problem = String;

/// Largest message over UDP, in bytes, unless the settings have one.
const DEFAULT_MAX_DATAGRAM: usize = 8192;

/// Returns the problem of a socket.
pub(super) fn io(error: io::Error) -> Problem {
    error.to_string()
}

/// Returns the problem of a TLS handshake.
pub(super) fn tls(error: io::Error) -> Problem {
    tls::explain(format_args!("TLS: {error}"))
}

/// Returns the problem of a connection that the receiver closed.
pub(super) fn closed() -> Problem {
    "the connection was closed".into()
}

/// Returns the problem of a connection that broke before the confirmation.
pub(super) fn not_received(error: io::Error) -> Problem {
    format!("the connection failed before all was received: {error}")
}

/// Returns true if the error means that the receiver closed the connection. Some close without a TLS close_notify.
pub(super) fn is_close(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Adds the receiver's address to a problem.
pub(super) fn at(settings: &SyslogConfig, problem: &dyn Display) -> String {
    format!("{}:{}: {problem}", settings.host, settings.port)
}

/// Converts the problem of a probe.
pub(super) fn unavailable(settings: &SyslogConfig, problem: &Problem) -> SinkError {
    SinkError::Unavailable(at(settings, problem))
}

/// Returns code and reason if a message must be rejected.
pub(super) fn rejection(settings: &SyslogConfig, message: &[u8]) -> Option<(&'static str, String)> {
    let max_bytes = match (settings.max_bytes, settings.protocol) {
        (Some(max_bytes), _) => max_bytes,
        (None, Protocol::Udp) => DEFAULT_MAX_DATAGRAM,
        (None, _) => usize::MAX,
    };
    let is_line = settings.protocol != Protocol::Udp && settings.framing == Framing::Newline;
    if message.len() > max_bytes {
        let reason = format!("{} bytes, and the receiver takes {max_bytes}", message.len());
        Some(("TooLarge", reason))
    } else if is_line && memchr::memchr(b'\n', message).is_some() {
        let reason =
            "the message contains a line feed, which ends a message in newline framing; use octet counting";
        Some(("LineBreak", reason.into()))
    } else {
        None
    }
}
