//! The stage `siem-syslog`: one syslog message for each log, after RFC 5424 or RFC 3164.
//!
//! `<14>1 2017-01-20T11:50:43Z web-1 - - - - method=GET||status=200`: the log's time is the message's timestamp, its
//! fields are the text, `KEY=VALUE` in their order with a separator between two. The host frames messages.
//!
//! - **Line breaks** in keys and values become `\n` and `\r`, NUL becomes `\0`: no message is two, whatever frames it.
//!   Backslashes stay alone, so that what has no line breaks is as it was; `escape = "none"` leaves all as it is, for
//!   receivers that count octets.
//! - **Header fields** are printable ASCII of the length that the RFC allows: any other character becomes `_`, what is
//!   too long is cut, what is empty is `-`.
//! - **The byte order mark** that RFC 5424 wants before UTF-8 text is left out, as most senders do: receivers that
//!   don't know it take it for text. `bom` puts it there.
//! - **Structured data** that is longer than a message may be is left out: cut, it would be none.
//! - Bytes that are not UTF-8 become U+FFFD.
//!
//! # Layout
//! - [`config`](Config): what stands in a message, and `priority`: facilities and severities by name.
//! - `header`: what stands before the text, and where it is from. `timestamp`: times of both RFCs.
//! - [`formatter`](SyslogFormatter): the messages.

mod config;
mod formatter;
mod header;
mod priority;
mod timestamp;

pub use config::{Config, Escaping, Rfc};
pub use formatter::SyslogFormatter;
pub use priority::{Facility, Severity};

logship_stage::export_formatter!(SyslogFormatter);
