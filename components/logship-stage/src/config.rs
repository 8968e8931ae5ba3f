//! A stage's configuration: parses JSON text into a struct that the stage defines.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Parses `text` (empty: `{}`) as `T`. The error names the invalid key by its path. Put
/// `#[serde(deny_unknown_fields)]` on `T`, so that misspelled keys are rejected.
///
/// # Errors
/// [`Error::InvalidConfig`] with the path and the reason.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Config { level: u8 }
/// impl Default for Config { fn default() -> Self { Self { level: 3 } } }
///
/// let config: Config = logship_stage::config::parse(r#"{"level": 5}"#)?;
/// assert_eq!(config.level, 5);
/// let rejected = logship_stage::config::parse::<Config>(r#"{"level": "high"}"#).unwrap_err();
/// assert!(rejected.to_string().starts_with("level: invalid type"));
/// # Ok::<(), logship_stage::Error>(())
/// ```
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        // A configuration is usually one line, so the path says more than the line and column.
        let text = error.into_inner().to_string();
        Error::config(path, text.split(" at line ").next().unwrap_or(&text))
    })?;
    json.end().map_err(|error| Error::config("", error))?;
    Ok(value)
}

/// Returns the JSON Schema of `T`, for a stage's description.
pub fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).to_value().to_string()
}
