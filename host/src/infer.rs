//! Columns for a table format that was configured with none, from the first lines of the input.

use std::collections::HashMap;

use sonic_rs::LazyValue;

use crate::ndjson;

/// The types of Parquet columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Nothing but null so far.
    Unknown,
    Boolean,
    Int64,
    Double,
    String,
}

impl Type {
    /// The type of a JSON value. A number in quotes is a string: somebody wanted it so, and
    /// `"00123"` would not survive as a number.
    fn of(value: &LazyValue<'_>) -> Self {
        let text = value.as_raw_str();
        match text.as_bytes().first() {
            Some(b'n') => Self::Unknown,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'-' | b'0'..=b'9') if text.contains(['.', 'e', 'E']) => Self::Double,
            Some(b'-' | b'0'..=b'9') if text.parse::<i64>().is_ok() => Self::Int64,
            _ => Self::String,
        }
    }

    /// The type that holds the values of both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Unknown, other) => other,
            (one, Self::Unknown) => one,
            (Self::Int64 | Self::Double, Self::Int64 | Self::Double) => Self::Double,
            _ => Self::String,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int64 => "int64",
            Self::Double => "double",
            Self::Unknown | Self::String => "string",
        }
    }
}

/// A column, and its Parquet type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The key.
    pub key: String,
    /// The name of its type.
    pub type_name: &'static str,
}

/// The columns that hold what is in `lines`: the reserved ones, then the keys in the order in which
/// they come. Lines that are no objects are passed over.
pub fn columns(lines: &[u8]) -> Vec<Column> {
    let reserved = [("__time__", Type::Int64), ("__topic__", Type::String), ("__source__", Type::String)];
    let mut columns: Vec<(String, Type)> = reserved.map(|(key, kind)| (key.to_owned(), kind)).into();
    let first = columns.len();
    let mut place: HashMap<String, usize> = HashMap::new();
    let flat = |line: &&[u8]| str::from_utf8(line).is_ok_and(|line| !ndjson::is_deep(line));
    for line in lines.split(|&byte| byte == b'\n').filter(flat) {
        for (key, value) in sonic_rs::to_object_iter(line).flatten() {
            let kind = if key.starts_with("__tag__:") { Type::String } else { Type::of(&value) };
            if key.is_empty() || columns[..first].iter().any(|(reserved, _)| *reserved == key) {
                continue;
            }
            match place.get(key.as_ref()) {
                Some(&at) => columns[at].1 = columns[at].1.with(kind),
                None => {
                    place.insert(key.to_string(), columns.len());
                    columns.push((key.into_owned(), kind));
                }
            }
        }
    }
    columns.into_iter().map(|(key, kind)| Column { key, type_name: kind.name() }).collect()
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn types_are_those_that_hold_every_value() {
        let lines =
            br#"{"__time__":1,"i":1,"d":1,"s":"1","b":true,"n":null,"m":1,"big":99999999999999999999,"o":{}}
not json
{"i":-5,"d":1.5,"s":"2","b":false,"n":null,"m":"x","__tag__:h":"v","late":null}
{"late":1e3}
"#;
        let found = columns(lines);
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
}
