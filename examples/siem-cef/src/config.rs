use std::collections::BTreeMap;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The content of an event. A `…-from` setting names the origin of a value: the key of a field, `__topic__`,
/// `__source__` or `__tag__:KEY`. A value of the log overrides the constant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub(crate) struct Config {
    /// Device Vendor.
    pub(crate) vendor: String,
    /// Device Product.
    pub(crate) product: String,
    /// Device Version.
    pub(crate) version: String,
    /// Device Event Class ID: the kind of event, for machines.
    pub(crate) event_class: String,
    /// The origin of the event class.
    pub(crate) event_class_from: Option<String>,
    /// Name: the kind of event, for people.
    pub(crate) name: String,
    /// The origin of the name.
    pub(crate) name_from: Option<String>,
    /// The severity of events without one, 0-10.
    pub(crate) severity: u8,
    /// The origin of the severity: a number from 0 to 10, or a word of `severities`, syslog or CEF.
    pub(crate) severity_from: Option<String>,
    /// The severities of additional words, in any case.
    pub(crate) severities: BTreeMap<String, u8>,
    /// The extension keys of fields, such as `src`; an empty key drops the field.
    pub(crate) fields: BTreeMap<String, String>,
    /// True if the extension has the fields that `fields` does not name, under their own keys.
    pub(crate) others: bool,
    /// The extension key of the log's time, in milliseconds since 1970; empty: the time is omitted.
    pub(crate) time_key: String,
    /// True if an RFC 3164 header precedes the event.
    pub(crate) syslog_header: bool,
    /// The facility in that header, 0-23.
    pub(crate) facility: u8,
    /// The host name in that header; logship sets the name of its own host.
    pub(crate) hostname: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vendor: "logship".into(),
            product: "logship".into(),
            version: "1".into(),
            event_class: "log".into(),
            event_class_from: None,
            name: "log".into(),
            name_from: None,
            severity: 3,
            severity_from: None,
            severities: BTreeMap::new(),
            fields: BTreeMap::new(),
            others: true,
            time_key: "rt".into(),
            syslog_header: true,
            facility: 1,
            hostname: "-".into(),
        }
    }
}

impl Config {
    /// Rejects settings that the format does not allow.
    pub(crate) fn check(&self) -> Result<()> {
        let check_range = |path: String, number: u8, max: u8| {
            let reason = format!("{number} is out of range; use 0 to {max}");
            if number > max { Err(Error::config(path, reason)) } else { Ok(()) }
        };
        check_range("severity".into(), self.severity, 10)?;
        check_range("facility".into(), self.facility, 23)?;
        for (word, severity) in &self.severities {
            check_range(format!("severities.{word}"), *severity, 10)?;
        }
        check_key("time-key".into(), &self.time_key)?;
        self.fields.iter().try_for_each(|(name, key)| check_key(format!("fields.{name}"), key))
    }
}

fn check_key(path: String, key: &str) -> Result<()> {
    if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(Error::config(path, format!("{key:?} is not an extension key; use letters, digits and `_`")))
}
