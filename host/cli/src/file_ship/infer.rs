//! Infers the columns of a table format from the first lines of the input, if none are configured.

use std::collections::HashMap;

use sonic_rs::LazyValue;

use logship_batch::parser;

/// A Parquet column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Only nulls so far.
    Unknown,
    Boolean,
    Int64,
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
            Some(b'-' | b'0'..=b'9') if text.contains(['.', 'e', 'E']) => Self::Double,
            Some(b'-' | b'0'..=b'9') if text.parse::<i64>().is_ok() => Self::Int64,
            _ => Self::String,
        }
    }

    /// Returns the narrowest type that holds values of both types.
    fn merge(self, other: Self) -> Self {
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

/// A column and its Parquet type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The log's key.
    pub key: String,
    /// The Parquet type's name.
    pub type_name: &'static str,
}

/// Returns the columns for `lines`: the reserved ones, then the keys in order of first appearance.
/// Skips lines that are not JSON objects.
pub fn columns(lines: &[u8]) -> Vec<Column> {
    let reserved = [("__time__", Type::Int64), ("__topic__", Type::String), ("__source__", Type::String)];
    let mut columns: Vec<(String, Type)> = reserved.map(|(key, kind)| (key.to_owned(), kind)).into();
    let reserved_count = columns.len();
    let mut positions: HashMap<String, usize> = HashMap::new();
    let is_shallow = |line: &&[u8]| str::from_utf8(line).is_ok_and(|line| !parser::is_too_deep(line));
    for line in lines.split(|&byte| byte == b'\n').filter(is_shallow) {
        for (key, value) in sonic_rs::to_object_iter(line).flatten() {
            let kind = if key.starts_with("__tag__:") { Type::String } else { Type::of(&value) };
            if key.is_empty() || columns[..reserved_count].iter().any(|(reserved, _)| *reserved == key) {
                continue;
            }
            match positions.get(key.as_ref()) {
                Some(&at) => columns[at].1 = columns[at].1.merge(kind),
                None => {
                    positions.insert(key.to_string(), columns.len());
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
    fn infers_narrowest_type_of_all_values() {
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
