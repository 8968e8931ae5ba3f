use std::collections::BTreeMap;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// What stands in an event. Where a `…-from` is set the value is from the log, if it has one: the key of a field,
/// `__topic__`, `__source__` or `__tag__:KEY`.
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
    /// Device Event Class ID: which kind of event it is, for a machine.
    pub(crate) event_class: String,
    /// Where it is from.
    pub(crate) event_class_from: Option<String>,
    /// Name: which kind of event it is, for people.
    pub(crate) name: String,
    /// Where it is from.
    pub(crate) name_from: Option<String>,
    /// Severity of events that say none, 0-10.
    pub(crate) severity: u8,
    /// Where it is from: a number from 0 to 10, a word of `severities`, of syslog, or of CEF.
    pub(crate) severity_from: Option<String>,
    /// The severities of more words, whatever their case.
    pub(crate) severities: BTreeMap<String, u8>,
    /// The extension's key of a field, such as `src`; an empty one leaves the field out.
    pub(crate) fields: BTreeMap<String, String>,
    /// Whether fields that `fields` does not name stand in the extension, under their own keys.
    pub(crate) others: bool,
    /// The extension's key of the log's time, in milliseconds since 1970; empty: it stands nowhere.
    pub(crate) time_key: String,
    /// Whether a header of RFC 3164 stands before the event.
    pub(crate) syslog_header: bool,
    /// The facility in that header, 0-23.
    pub(crate) facility: u8,
    /// The host in that header; logship puts in the name of its own.
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
    /// Refuses what the format can't have.
    pub(crate) fn check(&self) -> Result<()> {
        let within = |path: String, number: u8, most: u8| {
            let reason = format!("{number} is none: 0 to {most}");
            if number > most { Err(Error::config(path, reason)) } else { Ok(()) }
        };
        within("severity".into(), self.severity, 10)?;
        within("facility".into(), self.facility, 23)?;
        for (word, severity) in &self.severities {
            within(format!("severities.{word}"), *severity, 10)?;
        }
        is_key("time-key".into(), &self.time_key)?;
        self.fields.iter().try_for_each(|(name, key)| is_key(format!("fields.{name}"), key))
    }
}

fn is_key(path: String, key: &str) -> Result<()> {
    if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(Error::config(path, format!("{key:?} is no key of an extension: letters, digits and `_`")))
}
