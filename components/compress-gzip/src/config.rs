use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// How hard to compress.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// From 0, which stores the bytes as they are, over 1, the fastest, to 9, the smallest.
    #[schemars(range(min = 0, max = 9))]
    pub level: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: 6 }
    }
}

impl Config {
    /// Refuses a level that gzip does not have.
    pub(crate) fn check(&self) -> Result<()> {
        if self.level > 9 {
            return Err(Error::config("level", format!("{} is not a level of gzip; 0 to 9 are", self.level)));
        }
        Ok(())
    }
}
