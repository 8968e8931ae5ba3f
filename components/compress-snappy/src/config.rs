use logship_stage::JsonSchema;
use serde::Deserialize;

/// No settings: snappy has no levels.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {}
