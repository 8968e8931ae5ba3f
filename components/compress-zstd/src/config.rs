use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The compression level.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The zstd level, from 1 (fastest) to 12. Higher levels need more memory and time than a stage should use.
    #[schemars(range(min = 1, max = 12))]
    pub level: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: 3 }
    }
}

impl Config {
    /// Rejects unsupported levels.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=12).contains(&self.level) {
            return Err(Error::config("level", format!("{} is not supported; use 1 to 12", self.level)));
        }
        Ok(())
    }
}
