//! Infers the columns of a table format from the first lines of the input, if none are configured.

use std::collections::HashMap;

use sonic_rs::LazyValue;

use logship_batch::parser::{self, Format, ValueScanner};
use logship_batch::reserved::FIELD_PREFIX;

use crate::input::Records;

/// A Parquet column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Only nulls so far.
    Unknown,
    Boolean,
    Int64,
    /// An integer that a double cannot hold exactly.
    LargeInt64,
    Double,
    String,
}

impl Type {
    /// Returns the type of a JSON value. A number in quotes stays a string: `"00123"` would lose its
    /// zeros as a number.
    fn of(value: &LazyValue<'_>) -> Self {
        let text = value.as_raw_str();
        match text.as_bytes().first() {
            Some(b'n') => Self::Unknown,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'-' | b'0'..=b'9') if text.contains(['.', 'e', 'E']) => {
                if is_double(text) {
                    Self::Double
                } else {
                    Self::String
                }
            }
            Some(b'-' | b'0'..=b'9') => match text.parse::<i64>() {
                Ok(number) if number.unsigned_abs() <= 1 << 53 => Self::Int64,
                Ok(_) => Self::LargeInt64,
                Err(_) => Self::String,
            },
            _ => Self::String,
        }
    }

    /// Returns the narrowest type that holds values of both types.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Unknown, other) => other,
            (one, Self::Unknown) => one,
            (Self::Int64 | Self::LargeInt64, Self::Int64 | Self::LargeInt64) => Self::LargeInt64,
            (Self::Int64 | Self::Double, Self::Int64 | Self::Double) => Self::Double,
            _ => Self::String,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int64 | Self::LargeInt64 => "int64",
            Self::Double => "double",
            Self::Unknown | Self::String => "string",
        }
    }
}

/// Returns true if a double holds a JSON number without losing digits: it is finite, and has no more significant digits
/// than the shortest text of a double.
fn is_double(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0');
    digits.count() <= 17 && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A column and its Parquet type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The log's key.
    pub key: String,
    /// The Parquet type's name.
    pub type_name: &'static str,
}

/// The reserved columns.
const RESERVED: [(&str, Type); 3] =
    [("__time__", Type::Int64), ("__topic__", Type::String), ("__source__", Type::String)];

/// The columns of fields and tags, with the position of each key.
#[derive(Debug, Default)]
pub struct Columns {
    columns: Vec<(String, Type)>,
    positions: HashMap<String, usize>,
}

impl Columns {
    /// Adds the keys of the first records of a file. Skips text that is not a JSON object. Fields of CSV and text are
    /// strings.
    pub fn add_records(&mut self, head: &Records, text_field: &str) {
        match &*head.format {
            Format::JsonLines | Format::JsonValues => self.add_objects(&head.bytes),
            Format::Csv(header) => header.names().iter().for_each(|name| self.add(name, Type::String)),
            Format::Text => self.add(text_field, Type::String),
        }
    }

    /// Returns the reserved columns, then the others in order of first appearance.
    pub fn finish(self) -> Vec<Column> {
        let reserved = RESERVED.map(|(key, kind)| (key.to_owned(), kind)).into_iter();
        let all = reserved.chain(self.columns);
        all.map(|(key, kind)| Column { key, type_name: kind.name() }).collect()
    }

    fn add_objects(&mut self, text: &[u8]) {
        let (mut scanner, mut scanned) = (ValueScanner::default(), 0);
        while let Some(item) = scanner.next(text, scanned).or_else(|| scanner.rest(text)) {
            scanned = item.end;
            let object = str::from_utf8(&text[item]).unwrap_or_default();
            if !parser::is_too_deep(object) {
                for (key, value) in sonic_rs::to_object_iter(object).flatten() {
                    self.add(&key, Type::of(&value));
                }
            }
            if scanned == text.len() {
                break;
            }
        }
    }

    fn add(&mut self, key: &str, kind: Type) {
        if RESERVED.iter().any(|(reserved, _)| *reserved == key) {
            return;
        }
        let key = if key.is_empty() { FIELD_PREFIX } else { key };
        let kind = if key.starts_with("__tag__:") { Type::String } else { kind };
        match self.positions.get(key) {
            Some(&at) => self.columns[at].1 = self.columns[at].1.merge(kind),
            None => {
                self.positions.insert(key.to_owned(), self.columns.len());
                self.columns.push((key.to_owned(), kind));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn records(format: Format, bytes: &[u8]) -> Records {
        Records { bytes: bytes.to_vec(), format: Arc::new(format), header_lines: 0 }
    }

    #[test]
    fn infers_narrowest_type_of_all_values() {
        let lines =
            br#"{"__time__":1,"i":1,"d":1,"s":"1","b":true,"n":null,"m":1,"big":99999999999999999999,"o":{}}
not json
{"i":-5,"d":1.5,"s":"2","b":false,"n":null,"m":"x","__tag__:h":"v","late":null}
{"late":1e3}
"#;
        let mut found = Columns::default();
        found.add_records(&records(Format::JsonLines, lines), "message");
        let found = found.finish();
        let found: Vec<_> = found.iter().map(|column| (column.key.as_str(), column.type_name)).collect();
        let expected = [
            ("__time__", "int64"),
            ("__topic__", "string"),
            ("__source__", "string"),
            ("i", "int64"),
            ("d", "double"),
            ("s", "string"),
            ("b", "boolean"),
            ("n", "string"),
            ("m", "string"),
            ("big", "string"),
            ("o", "string"),
            ("__tag__:h", "string"),
            ("late", "double"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn inferred_types_lose_no_digits_and_no_field() {
        let lines = br#"{"large":9007199254740993,"id":9007199254740993,"money":12345678901234567.89,"huge":1e400,"":"x"}
{"large":1.5,"id":7,"money":1,"huge":1,"f":0.30000000000000004}
"#;
        let mut found = Columns::default();
        found.add_records(&records(Format::JsonLines, lines), "message");
        let found = found.finish();
        let found: Vec<_> = found[3..].iter().map(|column| (column.key.as_str(), column.type_name)).collect();
        let expected = [
            ("large", "string"),
            ("id", "int64"),
            ("money", "string"),
            ("huge", "string"),
            ("__field__:", "string"),
            ("f", "double"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn input_without_logs_has_the_reserved_columns() {
        assert_eq!(Columns::default().finish().len(), 3);
    }
}
