//! Numbers that scripts write as numbers or as text.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};

/// Parses a number, a text with a number, or an empty text for no number.
pub(super) fn optional<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    let text = deserializer.deserialize_any(Text)?;
    match text.trim() {
        "" => Ok(None),
        number => {
            number.parse().map(Some).map_err(|_| de::Error::custom(format!("{number:?} is no valid number")))
        }
    }
}

/// Takes numbers and texts as text.
struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, or a text with a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_unit<E: de::Error>(self) -> Result<String, E> {
        Ok(String::new())
    }
}
