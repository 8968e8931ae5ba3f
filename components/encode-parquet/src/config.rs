use std::ops::RangeInclusive;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The columns of a file, and how it is laid out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The columns, in order.
    pub columns: Vec<ColumnConfig>,
    /// How pages are compressed. The host sets it from the compression of the rule.
    #[serde(default)]
    pub compression: Compression,
    /// How many bytes of values, as the logs have them, a row group holds: it ends with the log that
    /// reaches them. Bigger groups are read faster, and take as much memory to write.
    #[serde(default = "row_group_bytes")]
    #[schemars(range(min = 1_048_576, max = 67_108_864))]
    pub row_group_bytes: u64,
}

/// One column.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct ColumnConfig {
    /// The key of the values, and the name of the column.
    pub key: String,
    /// What the values are converted to.
    #[serde(rename = "type", default)]
    pub kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Kind {
    /// UTF-8 text.
    #[default]
    String,
    /// `true` or `false`.
    Boolean,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// A floating-point number of 32 bits.
    Float,
    /// A floating-point number of 64 bits.
    Double,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By a raw snappy block each.
    Snappy,
}

const ROW_GROUP_BYTES: RangeInclusive<u64> = 1 << 20..=64 << 20;

fn row_group_bytes() -> u64 {
    32 << 20
}

impl Config {
    /// Reads a configuration and checks what its types can't say.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let config: Self = logship_stage::config::parse(text)?;
        if config.columns.is_empty() {
            let example = r#"such as {"columns": [{"key": "__time__", "type": "int64"}]}"#;
            return Err(Error::config("columns", format!("no columns; name the keys to ship, {example}")));
        }
        if !ROW_GROUP_BYTES.contains(&config.row_group_bytes) {
            let (least, most) = (ROW_GROUP_BYTES.start(), ROW_GROUP_BYTES.end());
            let reason = format!("{} bytes; give from {least} to {most}", config.row_group_bytes);
            return Err(Error::config("row_group_bytes", reason));
        }
        Ok(config)
    }
}
