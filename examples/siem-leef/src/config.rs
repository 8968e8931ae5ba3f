use std::collections::BTreeMap;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The content of an event. A `…-from` setting names the origin of a value: the key of a field, `__topic__`,
/// `__source__` or `__tag__:KEY`. A value of the log overrides the constant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub(crate) struct Config {
    /// The version of LEEF.
    pub(crate) leef: Version,
    /// Vendor.
    pub(crate) vendor: String,
    /// Product.
    pub(crate) product: String,
    /// Version.
    pub(crate) version: String,
    /// EventID: the kind of event.
    pub(crate) event_id: String,
    /// The origin of the event id.
    pub(crate) event_id_from: Option<String>,
    /// The origin of the attribute `sev`: a number from 1 to 10, or a word of `severities` or syslog.
    pub(crate) severity_from: Option<String>,
    /// The severities of additional words, 1-10, in any case.
    pub(crate) severities: BTreeMap<String, u8>,
    /// The attribute keys of fields, such as `src` or `usrName`; an empty key drops the field.
    pub(crate) fields: BTreeMap<String, String>,
    /// True if fields that `fields` does not name become attributes, under their own keys.
    pub(crate) others: bool,
    /// True if the attribute `devTime` has the log's time, in milliseconds since 1970.
    pub(crate) dev_time: bool,
    /// The delimiter between two attributes: one character; always a tab in LEEF 1.0.
    pub(crate) delimiter: String,
    /// True if an RFC 3164 header precedes the event.
    pub(crate) syslog_header: bool,
    /// The facility in that header, 0-23.
    pub(crate) facility: u8,
    /// The host name in that header, by which QRadar finds the log source; logship sets the name of its own host.
    pub(crate) hostname: String,
}

/// A version of LEEF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "logship_stage::schemars")]
pub(crate) enum Version {
    /// 1.0.
    #[serde(rename = "1.0")]
    One,
    /// 2.0, whose header names the delimiter.
    #[serde(rename = "2.0")]
    Two,
}

impl Version {
    pub(crate) fn number(self) -> &'static str {
        match self {
            Self::One => "1.0",
            Self::Two => "2.0",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            leef: Version::Two,
            vendor: "logship".into(),
            product: "logship".into(),
            version: "1".into(),
            event_id: "log".into(),
            event_id_from: None,
            severity_from: None,
            severities: BTreeMap::new(),
            fields: BTreeMap::new(),
            others: true,
            dev_time: true,
            delimiter: "\t".into(),
            syslog_header: true,
            facility: 1,
            hostname: "-".into(),
        }
    }
}

impl Config {
    /// Rejects settings that the format does not allow.
    pub(crate) fn check(&self) -> Result<Delimiter> {
        if self.facility > 23 {
            return Err(Error::config("facility", format!("{} is out of range; use 0 to 23", self.facility)));
        }
        for (word, severity) in &self.severities {
            if !(1..=10).contains(severity) {
                let reason = format!("{severity} is out of range; use 1 to 10");
                return Err(Error::config(format!("severities.{word}"), reason));
            }
        }
        for (name, key) in &self.fields {
            if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                let reason = format!("{key:?} is not an attribute key; use letters, digits and `_`");
                return Err(Error::config(format!("fields.{name}"), reason));
            }
        }
        if self.leef == Version::One && self.delimiter != "\t" {
            return Err(Error::config(
                "delimiter",
                "LEEF 1.0 always uses tabs; use LEEF 2.0, or remove the delimiter",
            ));
        }
        Delimiter::parse(&self.delimiter).map_err(|reason| Error::config("delimiter", reason))
    }
}

/// The delimiter between two attributes.
pub(crate) struct Delimiter {
    character: char,
    text: String,
    in_header: String,
}

impl Delimiter {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut characters = text.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else {
            return Err(format!("{text:?} is not a single character"));
        };
        let is_reserved = character.is_alphanumeric() || "|=_- .:/\\\n\r\0".contains(character);
        let code = u32::from(character);
        if is_reserved || code > 0xffff {
            return Err(format!("{text:?} occurs in headers, keys or most values; use a tab or `^`"));
        }
        // Characters other than printable ASCII are written by their code.
        let plain = character.is_ascii_graphic();
        let in_header = if plain { text.to_owned() } else { format!("x{code:02X}") };
        Ok(Self { character, text: text.to_owned(), in_header })
    }

    pub(crate) fn character(&self) -> char {
        self.character
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the delimiter as written in the header of LEEF 2.0.
    pub(crate) fn in_header(&self) -> &str {
        &self.in_header
    }
}
