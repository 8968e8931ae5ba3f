use logship_stage::JsonSchema;
use serde::Deserialize;

/// No settings: the rule determines the key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {}
