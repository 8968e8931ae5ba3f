use logship_stage::JsonSchema;
use serde::Deserialize;

/// Nothing can be chosen: all that a key is made of comes with the rule.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {}
