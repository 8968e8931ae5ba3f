use std::borrow::Cow;

use logship_stage::schemars::{Schema, SchemaGenerator, json_schema};
use logship_stage::{Error, JsonSchema, Result};
use serde::{Deserialize, Deserializer, de};

use crate::header::LEAST_MAX_BYTES;
use crate::priority::Given;
use crate::{Facility, Severity};

/// What stands in a message. Where a `…-from` is set the value is from the log, if it has one that serves: the key of a
/// field, `__topic__`, `__source__` or `__tag__:KEY`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// Which RFC messages are after.
    pub rfc: Rfc,
    /// What stands between two fields. Line breaks in it are escaped as those of values are.
    pub separator: String,
    /// The facility, by name or number.
    pub facility: Facility,
    /// Where it is from.
    pub facility_from: Option<String>,
    /// The severity, by name or number.
    pub severity: Severity,
    /// Where it is from.
    pub severity_from: Option<String>,
    /// The host that messages are from; logship puts in the name of its own.
    pub hostname: String,
    /// Where it is from.
    pub hostname_from: Option<String>,
    /// The tag: APP-NAME of RFC 5424.
    pub tag: String,
    /// Where it is from.
    pub tag_from: Option<String>,
    /// PROCID; after RFC 3164, what stands in brackets behind the tag, if anything but `-`.
    pub procid: String,
    /// Where it is from.
    pub procid_from: Option<String>,
    /// MSGID; RFC 5424 only.
    pub msgid: String,
    /// Where it is from.
    pub msgid_from: Option<String>,
    /// Whether topic, source and tags stand in the structured data; RFC 5424 only.
    pub structured_data: bool,
    /// The SD-ID of these.
    pub sd_id: String,
    /// The offset from UTC that timestamps have: `+08:00`, `+0800` or `Z`.
    pub utc_offset: String,
    /// Which characters of keys and values are escaped.
    pub escape: Escaping,
    /// Whether a byte order mark stands before the text; RFC 5424 only.
    pub bom: bool,
    /// The longest message, in bytes, 1024 at least; the text of a longer one is cut, between two characters, and
    /// structured data that leaves no room for a header is left out. 0: none is.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        let none = || "-".to_owned();
        Self {
            rfc: Rfc::default(),
            separator: "||".into(),
            facility: Facility::default(),
            facility_from: None,
            severity: Severity::default(),
            severity_from: None,
            hostname: none(),
            hostname_from: None,
            tag: none(),
            tag_from: None,
            procid: none(),
            procid_from: None,
            msgid: none(),
            msgid_from: None,
            structured_data: false,
            sd_id: "logship@32473".into(),
            utc_offset: "+00:00".into(),
            escape: Escaping::default(),
            bom: false,
            max_bytes: 0,
        }
    }
}

impl Config {
    /// Refuses a limit that headers do not fit in.
    pub(crate) fn check(&self) -> Result<()> {
        if (1..LEAST_MAX_BYTES).contains(&self.max_bytes) {
            let reason =
                format!("{} is too few; choose {LEAST_MAX_BYTES} or more, or 0 for no limit", self.max_bytes);
            return Err(Error::config("max-bytes", reason));
        }
        Ok(())
    }
}

/// Which RFC messages are after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rfc {
    /// RFC 5424.
    #[default]
    Rfc5424,
    /// RFC 3164, as BSD had it.
    Rfc3164,
}

impl<'de> Deserialize<'de> for Rfc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Given::deserialize(deserializer)?.text().as_str() {
            "5424" => Ok(Self::Rfc5424),
            "3164" => Ok(Self::Rfc3164),
            other => Err(de::Error::custom(format!("{other:?} is no RFC of syslog: 5424 or 3164"))),
        }
    }
}

impl JsonSchema for Rfc {
    fn schema_name() -> Cow<'static, str> {
        "Rfc".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["5424", "3164", 5424, 3164] })
    }
}

/// Which characters of keys and values are escaped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Escaping {
    /// Line feeds, carriage returns and NUL: `\n`, `\r`, `\0`.
    #[default]
    Breaks,
    /// None.
    None,
}
