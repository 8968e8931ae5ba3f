//! The configuration: JSON, validated before use.

use crate::exports::logship::{{interface}}::{ConfigProblem, Error};

/// Parses JSON text; the empty text means `{}`.
pub fn parse<C: serde::de::DeserializeOwned>(text: &str) -> Result<C, Error> {
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|error| invalid("", error.to_string()))
}

/// Returns an error for the setting at a path, or for the whole text if the path is empty.
pub fn invalid(path: &str, reason: impl Into<String>) -> Error {
    Error::InvalidConfig(ConfigProblem {
        path: path.into(),
        reason: reason.into(),
    })
}
