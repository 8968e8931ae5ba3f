//! Positions in a shard.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A position in a shard: the sequence number of a log group. The wire form is the base64 of the decimal number, as
/// clients calculate with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

/// An invalid cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a cursor: use one from a pull's reply or from type=cursor")]
pub struct InvalidCursor {
    /// The rejected text, truncated.
    pub text: String,
}

impl Cursor {
    /// Returns the wire form, like [`Display`](fmt::Display).
    pub fn encode(self) -> String {
        STANDARD.encode(self.0.to_string())
    }

    /// Parses the wire form. Ignores surrounding white space, as one client library adds a line break. Accepts only
    /// the canonical text of a cursor, so that equal cursors have equal texts.
    ///
    /// # Errors
    /// Fails if the text is not a cursor.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let text = text.trim();
        let invalid = || InvalidCursor { text: text.chars().take(40).collect() };
        let decimal = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let number = decimal.and_then(|decimal| decimal.parse().ok()).ok_or_else(invalid)?;
        let cursor = Self(number);
        // Rejects `+1` and `01`.
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
    fn decodes_cursors_of_log_service() {
        assert_eq!(Cursor(1_447_329_401_102_130_904).to_string(), "MTQ0NzMyOTQwMTEwMjEzMDkwNA==");
        assert_eq!("MTQ0NzMyOTQwMTEwMjEzMDkwNA==\n".parse(), Ok(Cursor(1_447_329_401_102_130_904)));
        for number in [0, 1, 10, u64::MAX] {
            assert_eq!(Cursor::decode(&Cursor(number).encode()), Ok(Cursor(number)));
        }
    }

    #[test]
    fn rejects_other_texts() {
        let decimals = ["", "01", "+1", "-1", " 1", "1.0", "18446744073709551616", "x"];
        let texts = decimals.map(|decimal| STANDARD.encode(decimal));
        for text in texts.iter().map(String::as_str).chain(["begin", "MQ", "MR==", "ü", "MQ== MQ=="]) {
            assert!(Cursor::decode(text).is_err(), "{text}");
        }
    }
}
