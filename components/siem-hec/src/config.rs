use std::collections::BTreeMap;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The content of an event.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The format of the fields in `event`: a JSON object, or text.
    pub format: Format,
    /// The separator between two fields in text; `||` by default.
    pub separator: Option<String>,
    /// The events' sourcetype.
    pub sourcetype: Option<String>,
    /// The events' index.
    pub index: Option<String>,
    /// The events' source.
    pub source: Option<String>,
    /// The events' host.
    pub host: Option<String>,
    /// The origin of the sourcetype, for logs that have it: the key of a field, `__topic__`, `__source__` or
    /// `__tag__:KEY`. Overrides `sourcetype`.
    pub sourcetype_from: Option<String>,
    /// The origin of the index, as for `sourcetype-from`.
    pub index_from: Option<String>,
    /// The origin of the source, as for `sourcetype-from`.
    pub source_from: Option<String>,
    /// The origin of the host, as for `sourcetype-from`.
    pub host_from: Option<String>,
    /// True if events have `__topic__` and `__source__`.
    pub reserved: bool,
    /// True if events have the tags of the log group, as `__tag__:KEY`.
    pub tags: bool,
    /// By topic, the keys of fields with JSON text that is embedded as JSON; `*` is any topic. Invalid JSON stays text.
    pub json_fields: BTreeMap<String, Vec<String>>,
}

impl Config {
    /// Rejects settings that the format does not use.
    pub(crate) fn check(&self) -> Result<()> {
        let unused = |path: &str, format| {
            Err(Error::config(path, format!("it has no effect unless the format is {format}; remove it")))
        };
        match self.format {
            Format::Json if self.separator.is_some() => unused("separator", "text"),
            Format::Text if !self.json_fields.is_empty() => unused("json-fields", "json"),
            _ => Ok(()),
        }
    }
}

/// The format of the fields in an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Format {
    /// A JSON object.
    #[default]
    Json,
    /// `KEY=VALUE`, separated by the separator.
    Text,
}
