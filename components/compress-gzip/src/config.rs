use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The compression level.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The level: 0 stores the bytes uncompressed, 1 is fastest, 9 is smallest.
    #[schemars(range(min = 0, max = 9))]
    pub level: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: 6 }
    }
}

impl Config {
    /// Rejects unknown levels.
    pub(crate) fn check(&self) -> Result<()> {
        if self.level > 9 {
            return Err(Error::config("level", format!("{} is not a gzip level; use 0 to 9", self.level)));
        }
        Ok(())
    }
}
