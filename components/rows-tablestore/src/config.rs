use std::collections::BTreeMap;

use logship_stage::JsonSchema;
use logship_stage::mapping::MappedColumn;
use serde::Deserialize;

/// The configuration of the stage. The types of columns are those of the table: `integer`, `double`, `boolean`,
/// `string` or `binary`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The protocol of the rows.
    #[serde(default)]
    pub protocol: Protocol,
    /// The columns and their values. Those of the primary key must be among them.
    pub columns: Vec<MappedColumn>,
    /// The base of texts that become integers, by column: 2 to 36. Default: 10.
    #[serde(default)]
    pub bases: BTreeMap<String, u32>,
    /// True if the other fields and properties of a log get a column of their own, as texts. Characters that no name of a
    /// column has become `_`.
    #[serde(default = "default_true")]
    pub others: bool,
    /// Keys of other fields and properties that get no column.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The version of cells.
    #[serde(default)]
    pub version: Version,
}

fn default_true() -> bool {
    true
}

/// The protocol of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Protocol {
    /// PlainBuffer rows.
    #[default]
    Tablestore,
}

/// The version of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Version {
    /// The server's clock.
    #[default]
    Server,
    /// The log's time.
    LogTime,
}
