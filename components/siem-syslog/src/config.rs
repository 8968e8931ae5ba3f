use std::borrow::Cow;

use logship_stage::schemars::{Schema, SchemaGenerator, json_schema};
use logship_stage::{Error, JsonSchema, Result};
use serde::{Deserialize, Deserializer, de};

use crate::header::MIN_MAX_BYTES;
use crate::priority::NameOrNumber;
use crate::{Facility, Severity};

/// The content of a message. A `…-from` setting names the origin of a value: the key of a field, `__topic__`,
/// `__source__` or `__tag__:KEY`. A valid value of the log overrides the constant.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The RFC that messages follow.
    pub rfc: Rfc,
    /// The separator between two fields. Line breaks in it are escaped like those in values.
    pub separator: String,
    /// The facility, by name or number.
    pub facility: Facility,
    /// The origin of the facility.
    pub facility_from: Option<String>,
    /// The severity, by name or number.
    pub severity: Severity,
    /// The origin of the severity.
    pub severity_from: Option<String>,
    /// The host name; logship sets the name of its own host.
    pub hostname: String,
    /// The origin of the host name.
    pub hostname_from: Option<String>,
    /// The tag: APP-NAME of RFC 5424.
    pub tag: String,
    /// The origin of the tag.
    pub tag_from: Option<String>,
    /// PROCID. In RFC 3164 messages, it follows the tag in brackets, unless it is `-`.
    pub procid: String,
    /// The origin of the PROCID.
    pub procid_from: Option<String>,
    /// MSGID (RFC 5424 only).
    pub msgid: String,
    /// The origin of the MSGID.
    pub msgid_from: Option<String>,
    /// True if messages have topic, source and tags as structured data (RFC 5424 only).
    pub structured_data: bool,
    /// The SD-ID of the structured data.
    pub sd_id: String,
    /// The UTC offset of timestamps: `+08:00`, `+0800` or `Z`.
    pub utc_offset: String,
    /// The characters of keys and values to escape.
    pub escape: Escaping,
    /// True if the text begins with a byte order mark (RFC 5424 only).
    pub bom: bool,
    /// The longest message in bytes, at least 1024; 0 means no limit. The text of longer messages is truncated between
    /// two characters. Structured data that leaves no space for a header is omitted.
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
    /// Rejects a limit that is too small for headers.
    pub(crate) fn check(&self) -> Result<()> {
        if (1..MIN_MAX_BYTES).contains(&self.max_bytes) {
            let reason =
                format!("{} is too small; use {MIN_MAX_BYTES} or more, or 0 for no limit", self.max_bytes);
            return Err(Error::config("max-bytes", reason));
        }
        Ok(())
    }
}

/// The RFC that messages follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rfc {
    /// RFC 5424.
    #[default]
    Rfc5424,
    /// RFC 3164 (BSD syslog).
    Rfc3164,
}

impl<'de> Deserialize<'de> for Rfc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NameOrNumber::deserialize(deserializer)?.text().as_str() {
            "5424" => Ok(Self::Rfc5424),
            "3164" => Ok(Self::Rfc3164),
            other => Err(de::Error::custom(format!("unknown syslog RFC {other:?}: use 5424 or 3164"))),
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

/// The characters of keys and values to escape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Escaping {
    /// Line feeds, carriage returns and NUL: `\n`, `\r`, `\0`.
    #[default]
    Breaks,
    /// No characters.
    None,
}
