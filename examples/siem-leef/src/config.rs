use std::collections::BTreeMap;

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// What stands in an event. Where a `…-from` is set the value is from the log, if it has one: the key of a field,
/// `__topic__`, `__source__` or `__tag__:KEY`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub(crate) struct Config {
    /// Which LEEF.
    pub(crate) leef: Version,
    /// Vendor.
    pub(crate) vendor: String,
    /// Product.
    pub(crate) product: String,
    /// Version.
    pub(crate) version: String,
    /// EventID: which kind of event it is.
    pub(crate) event_id: String,
    /// Where it is from.
    pub(crate) event_id_from: Option<String>,
    /// Where the attribute `sev` is from: a number from 1 to 10, a word of `severities`, or one of syslog.
    pub(crate) severity_from: Option<String>,
    /// The severities of more words, 1-10, whatever their case.
    pub(crate) severities: BTreeMap<String, u8>,
    /// The attribute of a field, such as `src` or `usrName`; an empty one leaves the field out.
    pub(crate) fields: BTreeMap<String, String>,
    /// Whether fields that `fields` does not name are attributes, under their own keys.
    pub(crate) others: bool,
    /// Whether the attribute `devTime` has the log's time, in milliseconds since 1970.
    pub(crate) dev_time: bool,
    /// What stands between two attributes: a character, of LEEF 1.0 always a tab.
    pub(crate) delimiter: String,
    /// Whether a header of RFC 3164 stands before the event.
    pub(crate) syslog_header: bool,
    /// The facility in that header, 0-23.
    pub(crate) facility: u8,
    /// The host in that header, by which QRadar finds the log source; logship puts in the name of its own.
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
    /// Refuses what the format can't have.
    pub(crate) fn check(&self) -> Result<Delimiter> {
        if self.facility > 23 {
            return Err(Error::config("facility", format!("{} is none: 0 to 23", self.facility)));
        }
        for (word, severity) in &self.severities {
            if !(1..=10).contains(severity) {
                let reason = format!("{severity} is none: 1 to 10");
                return Err(Error::config(format!("severities.{word}"), reason));
            }
        }
        for (name, key) in &self.fields {
            if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                let reason = format!("{key:?} is no key of an attribute: letters, digits and `_`");
                return Err(Error::config(format!("fields.{name}"), reason));
            }
        }
        if self.leef == Version::One && self.delimiter != "\t" {
            return Err(Error::config("delimiter", "LEEF 1.0 has tabs; take 2.0, or leave it out"));
        }
        Delimiter::parse(&self.delimiter).map_err(|reason| Error::config("delimiter", reason))
    }
}

/// What stands between two attributes.
pub(crate) struct Delimiter {
    character: char,
    text: String,
    in_header: String,
}

impl Delimiter {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut characters = text.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else {
            return Err(format!("{text:?} is no single character"));
        };
        let taken = character.is_alphanumeric() || "|=_- .:/\\\n\r\0".contains(character);
        let code = u32::from(character);
        if taken || code > 0xffff {
            return Err(format!("{text:?} is in headers, keys or most values: take a tab, or `^`"));
        }
        // What is no printable ASCII is named by its code.
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

    /// As the header of LEEF 2.0 has it.
    pub(crate) fn in_header(&self) -> &str {
        &self.in_header
    }
}
