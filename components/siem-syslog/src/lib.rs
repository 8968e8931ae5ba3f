//! The stage `siem-syslog`: one syslog message per log, following RFC 5424 or RFC 3164.
//!
//! `<14>1 2017-01-20T11:50:43Z web-1 - - - - method=GET||status=200`: the log's time is the message's timestamp. Its
//! fields are the text: `KEY=VALUE` in order, separated by the separator. The host frames messages.
//!
//! - **Line breaks** in keys and values become `\n` and `\r`, NUL becomes `\0`, so that no framing splits a message.
//!   Backslashes are not escaped, so values without line breaks are unchanged. `escape = "none"` escapes nothing, for
//!   receivers that count octets.
//! - **Header fields** are printable ASCII of the length that the RFC allows. Other characters become `_`, long values
//!   are truncated, empty values become `-`.
//! - **The byte order mark** that RFC 5424 requires before UTF-8 text is omitted, as by most senders: receivers that do
//!   not know it treat it as text. `bom` adds it.
//! - **Structured data** that exceeds the message limit is omitted, because truncated structured data is invalid.
//! - Bytes that are not UTF-8 become U+FFFD.
//!
//! # Layout
//! - [`config`](Config): the content of messages. `priority`: facilities and severities by name.
//! - `header`: writes the part before the text. `timestamp`: writes timestamps of both RFCs.
//! - [`formatter`](SyslogFormatter): writes messages.

mod config;
mod formatter;
mod header;
mod priority;
mod timestamp;

pub use config::{Config, Escaping, Rfc};
pub use formatter::SyslogFormatter;
pub use priority::{Facility, Severity};

logship_stage::export_formatter!(SyslogFormatter);
