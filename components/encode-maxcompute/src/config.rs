use logship_stage::JsonSchema;
use logship_stage::mapping::MappedColumn;
use serde::Deserialize;

/// The configuration of the stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The protocol of the block.
    #[serde(default)]
    pub protocol: Protocol,
    /// The columns and their values.
    pub columns: Vec<MappedColumn>,
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
