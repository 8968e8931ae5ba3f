use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// How hard to compress.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// From 1, the fastest, to 12, as zstd counts. Its levels beyond need more memory and time than
    /// a stage should take.
    #[schemars(range(min = 1, max = 12))]
    pub level: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: 3 }
    }
}

impl Config {
    /// Refuses a level that this stage does not offer.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=12).contains(&self.level) {
            return Err(Error::config("level", format!("{} is not offered; 1 to 12 are", self.level)));
        }
        Ok(())
    }
}
