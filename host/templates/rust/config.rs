//! The configuration: JSON, checked before anything is made with it.

use crate::exports::logship::{{interface}}::{ConfigProblem, Error};

/// What JSON text has; the empty text stands for `{}`.
pub fn read<C: serde::de::DeserializeOwned>(text: &str) -> Result<C, Error> {
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|error| wrong("", error.to_string()))
}

/// What is wrong with the member at a path, or with all of it.
pub fn wrong(path: &str, reason: impl Into<String>) -> Error {
    Error::InvalidConfig(ConfigProblem {
        path: path.into(),
        reason: reason.into(),
    })
}
