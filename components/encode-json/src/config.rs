use logship_stage::JsonSchema;
use serde::Deserialize;

/// The parts of a line besides the fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// True if every line has `__time__`, `__topic__` and `__source__`.
    pub reserved: bool,
    /// True if every line has the tags of the log group, as `__tag__:KEY`.
    pub tags: bool,
    /// True if lines of logs with nanoseconds have them after `__time__`, as the number `__time_ns_part__`.
    pub nanos: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { reserved: true, tags: false, nanos: false }
    }
}
