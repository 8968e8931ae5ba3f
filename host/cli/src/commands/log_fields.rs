//! Fields of log lines. What clients send can't end a line, or change how a terminal shows it.

use std::fmt::{self, Write};

use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Formats fields as `NAME=VALUE`, and the message as it is, with control characters escaped.
pub(super) fn escaped() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    let format = |writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(Escaped(writer), "{value:?}")
    };
    debug_fn(format).delimited(" ")
}

/// Escapes control characters.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, tail) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut letters = tail.chars();
            if let Some(letter) = letters.next() {
                write!(self.0, "{}", letter.escape_default())?;
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Returns true if a character ends a line, controls a terminal, or changes the direction of text.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_controls_only() {
        let escaped = |text: &str| {
            let mut written = String::new();
            Escaped(&mut written).write_str(text).unwrap();
            written
        };
        assert_eq!(escaped("plain é😀 \\ \"quoted\""), "plain é😀 \\ \"quoted\"");
        assert_eq!(escaped("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(escaped("\u{1b}[2J\u{9b}x\u{7f}\0"), "\\u{1b}[2J\\u{9b}x\\u{7f}\\u{0}");
        assert_eq!(escaped("\u{202e}gpj\u{2028}"), "\\u{202e}gpj\\u{2028}");
    }
}
