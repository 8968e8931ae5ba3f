//! Positions within a shard.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A position within a shard: one for each log group, in a row. On the wire it is base64 of the decimal number, as
/// clients count with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

/// A text that no cursor has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no cursor. Take one from a pull, or ask with type=cursor")]
pub struct InvalidCursor {
    /// The text, shortened.
    pub text: String,
}

impl Cursor {
    /// The text on the wire, as by [`Display`](fmt::Display).
    pub fn encode(self) -> String {
        STANDARD.encode(self.0.to_string())
    }

    /// The cursor of a text on the wire. Spaces around it are allowed: a client's library adds a line break. Each
    /// cursor has one text only, so that equal cursors are equal texts.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let text = text.trim();
        let invalid = || InvalidCursor { text: text.chars().take(40).collect() };
        let decimal = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let number = decimal.and_then(|decimal| decimal.parse().ok()).ok_or_else(invalid)?;
        let cursor = Self(number);
        // Neither `+1` nor `01`.
        if cursor.encode() == text { Ok(cursor) } else { Err(invalid()) }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode())
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        Self::decode(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_what_log_service_gives() {
        assert_eq!(Cursor(1_447_329_401_102_130_904).to_string(), "MTQ0NzMyOTQwMTEwMjEzMDkwNA==");
        assert_eq!("MTQ0NzMyOTQwMTEwMjEzMDkwNA==\n".parse(), Ok(Cursor(1_447_329_401_102_130_904)));
        for number in [0, 1, 10, u64::MAX] {
            assert_eq!(Cursor::decode(&Cursor(number).encode()), Ok(Cursor(number)));
        }
    }

    #[test]
    fn other_texts_are_none() {
        let decimals = ["", "01", "+1", "-1", " 1", "1.0", "18446744073709551616", "x"];
        let texts = decimals.map(|decimal| STANDARD.encode(decimal));
        for text in texts.iter().map(String::as_str).chain(["begin", "MQ", "MR==", "ü", "MQ== MQ=="]) {
            assert!(Cursor::decode(text).is_err(), "{text}");
        }
    }
}
