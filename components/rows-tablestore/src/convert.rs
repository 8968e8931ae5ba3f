//! Values of logs as values of a type.

use std::str;

use logship_stage::mapping;

use crate::plain_buffer::Value;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    /// 64 bits. Texts are in this base.
    Integer(u32),
    Double,
    Boolean,
    String,
    Binary,
}

/// The longest value that a reason shows, in characters.
const SHOWN: usize = 40;

impl DataType {
    /// Parses a type as a table names it. `base` is for integers.
    pub(crate) fn parse(name: &str, base: u32) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "integer" | "int" => Self::Integer(base),
            "double" => Self::Double,
            "boolean" | "bool" => Self::Boolean,
            "string" => Self::String,
            "binary" | "blob" => Self::Binary,
            _ => return None,
        })
    }

    /// Converts a value; `None` if it is missing. `text` is for numbers that become texts. `is_utf8` tells that all
    /// values of the batch are UTF-8.
    ///
    /// # Errors
    /// The problem.
    pub(crate) fn convert<'a>(
        self,
        value: mapping::Value<'a>,
        is_utf8: bool,
        text: &'a mut String,
    ) -> Result<Option<Value<'a>>, String> {
        let number = match value {
            mapping::Value::Missing => return Ok(None),
            mapping::Value::Bytes(bytes) => return self.convert_bytes(bytes, is_utf8).map(Some),
            mapping::Value::Time(seconds, _) => u64::from(seconds),
            mapping::Value::Number(number) => number,
        };
        Ok(Some(match self {
            Self::Integer(_) => {
                let number = i64::try_from(number).map_err(|_| format!("{number} has more than 63 bits"))?;
                Value::Integer(number)
            }
            Self::Double => Value::Double(number as f64),
            Self::Boolean => return Err(format!("{number} is not true or false")),
            Self::String | Self::Binary => {
                *text = number.to_string();
                if self == Self::String {
                    Value::String(text.as_bytes())
                } else {
                    Value::Binary(text.as_bytes())
                }
            }
        }))
    }

    #[inline(always)]
    fn convert_bytes(self, bytes: &[u8], is_utf8: bool) -> Result<Value<'_>, String> {
        match self {
            Self::String if is_utf8 || str::from_utf8(bytes).is_ok() => Ok(Value::String(bytes)),
            Self::String => Err(format!("{} is not UTF-8: use (->blob FIELD)", shown(bytes))),
            Self::Binary => Ok(Value::Binary(bytes)),
            Self::Integer(base) => integer(bytes, base),
            Self::Double => double(bytes),
            Self::Boolean => boolean(bytes),
        }
    }
}

fn integer(bytes: &[u8], base: u32) -> Result<Value<'_>, String> {
    let number = str::from_utf8(bytes).ok().and_then(|text| i64::from_str_radix(text, base).ok());
    let problem = || {
        let base = if base == 10 { String::new() } else { format!(" in base {base}") };
        format!("{} is no integer of 64 bits{base}", shown(bytes))
    };
    number.map(Value::Integer).ok_or_else(problem)
}

fn double(bytes: &[u8]) -> Result<Value<'_>, String> {
    let number = str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok());
    let number = number.filter(|number| number.is_finite());
    number.map(Value::Double).ok_or_else(|| format!("{} is no finite number", shown(bytes)))
}

fn boolean(bytes: &[u8]) -> Result<Value<'_>, String> {
    if bytes.eq_ignore_ascii_case(b"true") {
        Ok(Value::Boolean(true))
    } else if bytes.eq_ignore_ascii_case(b"false") {
        Ok(Value::Boolean(false))
    } else {
        Err(format!("{} is not true or false", shown(bytes)))
    }
}

/// Returns the beginning of a value, in quotes.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < bytes.len() && text.chars().count() > SHOWN {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(data_type: &str, base: u32, text: &[u8]) -> Result<String, String> {
        let data_type = DataType::parse(data_type, base).unwrap();
        let mut scratch = String::new();
        let value = data_type.convert(mapping::Value::Bytes(text), false, &mut scratch)?;
        Ok(format!("{:?}", value.unwrap()))
    }

    #[test]
    fn converts_texts() {
        for (data_type, base, text, expected) in [
            ("integer", 10, "-9223372036854775808", "Integer(-9223372036854775808)"),
            ("INTEGER", 10, "+7", "Integer(7)"),
            ("integer", 16, "fF", "Integer(255)"),
            ("integer", 2, "101", "Integer(5)"),
            ("double", 10, "1e3", "Double(1000.0)"),
            ("boolean", 10, "TRUE", "Boolean(true)"),
            ("boolean", 10, "false", "Boolean(false)"),
        ] {
            assert_eq!(convert(data_type, base, text.as_bytes()).unwrap(), expected);
        }
        assert_eq!(convert("blob", 10, b"\xff").unwrap(), "Binary([255])");
        assert_eq!(convert("string", 10, b"").unwrap(), "String([])");
    }

    #[test]
    fn refuses_what_is_no_value() {
        for (data_type, base, text, expected) in [
            ("integer", 10, &b"9223372036854775808"[..], "\"9223372036854775808\" is no integer of 64 bits"),
            ("integer", 10, b" 1", "is no integer"),
            ("integer", 10, b"", "\"\" is no integer"),
            ("integer", 8, b"9", "in base 8"),
            ("double", 10, b"inf", "no finite number"),
            ("double", 10, b"1e999", "no finite number"),
            ("boolean", 10, b"1", "not true or false"),
            ("string", 10, b"a\xff", "is not UTF-8"),
        ] {
            let problem = convert(data_type, base, text).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        let long = convert("integer", 10, "é".repeat(100).as_bytes()).unwrap_err();
        assert!(long.chars().count() < 80 && long.contains('…'), "{long}");
    }

    #[test]
    fn numbers_convert_too() {
        let mut text = String::new();
        let time = mapping::Value::Time(7, 5);
        assert_eq!(DataType::Integer(10).convert(time, true, &mut text), Ok(Some(Value::Integer(7))));
        assert_eq!(DataType::String.convert(time, true, &mut text), Ok(Some(Value::String(b"7"))));
        let large = mapping::Value::Number(u64::MAX);
        assert!(DataType::Integer(10).convert(large, true, &mut text).is_err());
        assert_eq!(DataType::Integer(10).convert(mapping::Value::Missing, true, &mut text), Ok(None));
    }
}
