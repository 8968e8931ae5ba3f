use logship_stage::JsonSchema;
use serde::Deserialize;

/// Nothing can be chosen: snappy has one way to compress.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {}
