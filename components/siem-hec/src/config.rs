use std::collections::BTreeMap;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// What stands in an event.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// How the fields stand in `event`: as a JSON object, or as text.
    pub format: Format,
    /// What stands between two fields in text; by default `||`.
    pub separator: Option<String>,
    /// The sourcetype of events.
    pub sourcetype: Option<String>,
    /// Their index.
    pub index: Option<String>,
    /// Their source.
    pub source: Option<String>,
    /// Their host.
    pub host: Option<String>,
    /// Where the sourcetype is from, if the log has it: the key of a field, `__topic__`, `__source__` or
    /// `__tag__:KEY`.
    pub sourcetype_from: Option<String>,
    /// Where the index is from, in the same way.
    pub index_from: Option<String>,
    /// Where the source is from, in the same way.
    pub source_from: Option<String>,
    /// Where the host is from, in the same way.
    pub host_from: Option<String>,
    /// Whether `__topic__` and `__source__` stand in the event.
    pub reserved: bool,
    /// Whether the tags of the log group stand in the event, as `__tag__:KEY`.
    pub tags: bool,
    /// By topic, the fields that are JSON text and become real JSON; `*` is any topic. What does not parse stays text.
    pub json_fields: BTreeMap<String, Vec<String>>,
}

impl Config {
    /// Refuses what means nothing in the format.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |path: &str, format| {
            Err(Error::config(path, format!("it means nothing unless the format is {format}; leave it out")))
        };
        match self.format {
            Format::Json if self.separator.is_some() => refused("separator", "text"),
            Format::Text if !self.json_fields.is_empty() => refused("json-fields", "json"),
            _ => Ok(()),
        }
    }
}

/// How the fields stand in an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Format {
    /// As a JSON object.
    #[default]
    Json,
    /// As `KEY=VALUE`, with the separator between two.
    Text,
}
