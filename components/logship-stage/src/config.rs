//! A stage's configuration: JSON text, read into a struct of the stage's own.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Reads `text` (empty: `{}`) as `T`. The error names the offending member by its path. Put
/// `#[serde(deny_unknown_fields)]` on `T`: a member that nobody reads is a mistake of somebody's.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Config { level: u8 }
/// impl Default for Config { fn default() -> Self { Self { level: 3 } } }
///
/// let config: Config = logship_stage::config::parse(r#"{"level": 5}"#)?;
/// assert_eq!(config.level, 5);
/// let refused = logship_stage::config::parse::<Config>(r#"{"level": "high"}"#).unwrap_err();
/// assert!(refused.to_string().starts_with("level: invalid type"));
/// # Ok::<(), logship_stage::Error>(())
/// ```
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = match error.path().to_string() {
            whole if whole == "." => String::new(),
            path => path,
        };
        // A configuration is one line as a rule, and the path says more than its column.
        let text = error.into_inner().to_string();
        Error::config(path, text.split(" at line ").next().unwrap_or(&text))
    })?;
    json.end().map_err(|error| Error::config("", error))?;
    Ok(value)
}

/// The JSON Schema of `T`, for a stage's description.
pub fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).to_value().to_string()
}
