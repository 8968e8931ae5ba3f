//! The types of columns, and the conversion of values.

use serde_json::Value;

/// A type of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Type {
    Text,
    /// A whole number of this range.
    Integer(i64, i64),
    Float,
}

impl Type {
    /// Returns the type with this name in ClickHouse, if this stage knows it.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name
            .strip_prefix("Nullable(")
            .and_then(|name| name.strip_suffix(')'))
            .unwrap_or(name);
        Some(match name {
            "String" => Self::Text,
            "Float64" => Self::Float,
            "DateTime" | "UInt32" => Self::Integer(0, u32::MAX.into()),
            "UInt8" => Self::Integer(0, u8::MAX.into()),
            "UInt16" => Self::Integer(0, u16::MAX.into()),
            "Int8" => Self::Integer(i8::MIN.into(), i8::MAX.into()),
            "Int16" => Self::Integer(i16::MIN.into(), i16::MAX.into()),
            "Int32" => Self::Integer(i32::MIN.into(), i32::MAX.into()),
            "Int64" => Self::Integer(i64::MIN, i64::MAX),
            _ => return None,
        })
    }

    /// Converts a value, or says why it doesn't convert.
    pub fn convert(self, value: &[u8]) -> Result<Value, String> {
        let text = String::from_utf8_lossy(value);
        match self {
            Self::Text => Ok(text.into()),
            Self::Integer(least, most) => match text.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(number.into()),
                _ => Err(format!(
                    "{} is not a whole number of {least} to {most}",
                    shown(&text)
                )),
            },
            Self::Float => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number.into()),
                _ => Err(format!("{} is not a finite number", shown(&text))),
            },
        }
    }
}

/// Returns the beginning of a value, for messages.
fn shown(text: &str) -> String {
    let begin: String = text.chars().take(64).collect();
    if begin.len() < text.len() {
        format!("{begin:?}…")
    } else {
        format!("{begin:?}")
    }
}
