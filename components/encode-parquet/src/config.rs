use std::ops::RangeInclusive;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The columns and the layout of a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The columns, in order.
    pub columns: Vec<ColumnConfig>,
    /// The compression of pages. The host sets it from the rule's compression.
    #[serde(default)]
    pub compression: Compression,
    /// The size of a row group, in bytes of unconverted values. A row group ends with the log that reaches this size.
    /// Larger row groups are faster to read, but need that much memory to write.
    #[serde(default = "row_group_bytes")]
    #[schemars(range(min = 1_048_576, max = 67_108_864))]
    pub row_group_bytes: u64,
    /// The name of an additional column with the values of a log that do not fit their columns: a JSON object as text,
    /// null for most logs.
    #[serde(default)]
    pub rejects_column: Option<String>,
}

/// A column.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct ColumnConfig {
    /// The key of the values; also the column's name.
    pub key: String,
    /// The type that values are converted to.
    #[serde(rename = "type", default)]
    pub kind: Kind,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Kind {
    /// UTF-8 text.
    #[default]
    String,
    /// `true` or `false`.
    Boolean,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A 32-bit floating-point number.
    Float,
    /// A 64-bit floating-point number.
    Double,
}

/// The compression of pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// One raw snappy block per page.
    Snappy,
}

const ROW_GROUP_BYTES: RangeInclusive<u64> = 1 << 20..=64 << 20;

fn row_group_bytes() -> u64 {
    32 << 20
}

impl Config {
    /// Parses a configuration and checks the constraints that its types cannot express.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let config: Self = logship_stage::config::parse(text)?;
        if config.columns.is_empty() {
            let example = r#"such as {"columns": [{"key": "__time__", "type": "int64"}]}"#;
            return Err(Error::config("columns", format!("no columns; name the keys to ship, {example}")));
        }
        if !ROW_GROUP_BYTES.contains(&config.row_group_bytes) {
            let (min, max) = (ROW_GROUP_BYTES.start(), ROW_GROUP_BYTES.end());
            let reason = format!("{} bytes is out of range; use {min} to {max}", config.row_group_bytes);
            return Err(Error::config("row_group_bytes", reason));
        }
        config.check_rejects_column()?;
        Ok(config)
    }

    fn check_rejects_column(&self) -> Result<()> {
        let Some(name) = &self.rejects_column else { return Ok(()) };
        let same = self.columns.iter().position(|column| column.key == *name);
        match same {
            _ if name.is_empty() => {
                Err(Error::config("rejects_column", "empty name; use one such as _rejects, or remove it"))
            }
            Some(index) => {
                let reason = format!("{name:?} is also columns[{index}]; choose another name");
                Err(Error::config("rejects_column", reason))
            }
            None => Ok(()),
        }
    }
}

impl Kind {
    /// Returns the end of a sentence about a value that does not convert: `is not an int64`.
    pub(crate) fn misfit(self) -> &'static str {
        match self {
            Self::String => "is not a text",
            Self::Boolean => "is not a boolean",
            Self::Int32 => "is not an int32",
            Self::Int64 => "is not an int64",
            Self::Float => "is not a finite float",
            Self::Double => "is not a finite double",
        }
    }

    /// Returns the end of a sentence about a number that was rounded.
    pub(crate) fn rounded(self) -> &'static str {
        if self == Self::Float {
            "has more digits than a float keeps"
        } else {
            "has more digits than a double keeps"
        }
    }
}
