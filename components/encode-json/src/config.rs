use logship_stage::JsonSchema;
use serde::Deserialize;

/// What stands in a line besides the fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// Whether `__time__`, `__topic__` and `__source__` come with every log.
    pub reserved: bool,
    /// Whether the tags of the log group come with every log, as `__tag__:KEY`.
    pub tags: bool,
    /// Whether the nanoseconds within the second come behind `__time__`, as the number
    /// `__time_ns_part__`, with logs that have them.
    pub nanos: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { reserved: true, tags: false, nanos: false }
    }
}
