//! Schemas of tables.

use std::fmt;

/// The primary key and the options of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// The columns of the primary key, in order. The first is the partition key.
    pub key: Vec<KeyColumn>,
    /// The most versions of a cell.
    pub max_versions: u64,
    /// The largest difference between the version of a cell and the server's clock, in seconds.
    pub version_deviation: u64,
}

/// A column of a primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// The name.
    pub name: String,
    /// The type.
    pub data_type: KeyType,
    /// True if the server chooses the value.
    pub is_auto_increment: bool,
}

/// The type of a column of a primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// 64 bits.
    Integer,
    /// UTF-8.
    String,
    /// Bytes.
    Binary,
    /// A type of a later version of Table Store.
    Unknown(u64),
}

impl KeyColumn {
    /// Returns a column of a type that a rule names.
    pub fn new(name: &str, data_type: &str) -> Self {
        let data_type = match data_type {
            "integer" => KeyType::Integer,
            "binary" => KeyType::Binary,
            _ => KeyType::String,
        };
        Self { name: name.into(), data_type, is_auto_increment: false }
    }
}

impl KeyType {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Integer => 1,
            Self::String => 2,
            Self::Binary => 3,
            Self::Unknown(number) => number as i64,
        }
    }

    pub(super) fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Integer,
            2 => Self::String,
            3 => Self::Binary,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for KeyColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_type = match self.data_type {
            KeyType::Integer => "integer",
            KeyType::String => "string",
            KeyType::Binary => "binary",
            KeyType::Unknown(number) => return write!(formatter, "{} of type {number}", self.name),
        };
        let option = if self.is_auto_increment { " auto-increment" } else { "" };
        write!(formatter, "{} {data_type}{option}", self.name)
    }
}

/// Returns a key as a list of its columns.
pub fn show_key(key: &[KeyColumn]) -> String {
    key.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
