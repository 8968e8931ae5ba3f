use logship_stage::mapping::MappedColumn;
use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

use crate::time::zone_offset;

/// The configuration of the stage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The protocol of the block.
    #[serde(default)]
    pub protocol: Protocol,
    /// The columns and their values. Other columns of the table are null.
    pub columns: Vec<MappedColumn>,
    /// The offset from UTC of dates and times without a zone, such as `+08:00`.
    #[serde(default = "utc")]
    pub utc_offset: String,
    /// Makes an empty value null. Otherwise it is an empty text, and a dirty value in columns of other types.
    #[serde(default)]
    pub empty_as_null: bool,
    /// Makes a value that is no date or time null in columns of dates and times, instead of dirty.
    #[serde(default)]
    pub invalid_dates_as_null: bool,
}

fn utc() -> String {
    "+00:00".into()
}

/// The protocol of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Protocol {
    /// Arrow record batches.
    #[default]
    MaxcomputeArrow,
    /// The protobuf record stream.
    MaxcomputeStream,
}

impl Protocol {
    /// The names of all protocols.
    pub(crate) const NAMES: [&str; 2] = ["maxcompute-arrow", "maxcompute-stream"];
}

impl Config {
    /// Returns the offset from UTC in seconds.
    pub(crate) fn offset(&self) -> Result<i64> {
        zone_offset(self.utc_offset.as_bytes()).ok_or_else(|| {
            let reason = format!("{:?} is no offset from UTC; use one such as +08:00", self.utc_offset);
            Error::config("utc-offset", reason)
        })
    }
}
