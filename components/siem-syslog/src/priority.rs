use std::borrow::Cow;

use logship_stage::JsonSchema;
use logship_stage::schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Alternative names of severities.
const SYNONYMS: [(&str, u8); 9] = [
    ("emergency", 0),
    ("panic", 0),
    ("critical", 2),
    ("fatal", 2),
    ("error", 3),
    ("warn", 4),
    ("informational", 6),
    ("information", 6),
    ("trace", 7),
];

/// The kind of program that a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severity(u8);

impl Default for Facility {
    fn default() -> Self {
        Self(1)
    }
}

impl Default for Severity {
    fn default() -> Self {
        Self(6)
    }
}

impl Facility {
    /// Parses a name, in any case, or a number.
    pub fn parse(text: &str) -> Option<Self> {
        parse_number(without_prefix(text), &FACILITIES).map(Self)
    }

    /// Returns the PRI of a message.
    pub(crate) fn pri(self, severity: Severity) -> u8 {
        self.0 * 8 + severity.0
    }
}

impl Severity {
    /// Parses a name, in any case, or a number.
    pub fn parse(text: &str) -> Option<Self> {
        let name = without_prefix(text);
        let synonym = || SYNONYMS.iter().find(|(synonym, _)| synonym.eq_ignore_ascii_case(name));
        parse_number(name, &SEVERITIES).or_else(|| synonym().map(|(_, number)| *number)).map(Self)
    }
}

/// Returns a name without the prefix of its C constant: `info` for `LOG_INFO`.
fn without_prefix(text: &str) -> &str {
    let text = text.trim_ascii();
    match text.split_at_checked(4) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case("log_") => name,
        _ => text,
    }
}

fn parse_number(name: &str, names: &[&str]) -> Option<u8> {
    let number = name.parse().ok().filter(|number| *number < names.len());
    let position = || names.iter().position(|known| known.eq_ignore_ascii_case(name));
    number.or_else(position).map(|number| number as u8)
}

/// A name or its number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
pub(crate) enum NameOrNumber {
    Name(String),
    Number(u64),
}

impl NameOrNumber {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Name(name) => name,
            Self::Number(number) => number.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Facility {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = NameOrNumber::deserialize(deserializer)?.text();
        let unknown = || {
            de::Error::custom(format!("unknown facility {text:?}: use {}, or 0-23", FACILITIES.join(", ")))
        };
        Self::parse(&text).ok_or_else(unknown)
    }
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = NameOrNumber::deserialize(deserializer)?.text();
        let unknown =
            || de::Error::custom(format!("unknown severity {text:?}: use {}, or 0-7", SEVERITIES.join(", ")));
        Self::parse(&text).ok_or_else(unknown)
    }
}

impl JsonSchema for Facility {
    fn schema_name() -> Cow<'static, str> {
        "Facility".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": FACILITIES }, { "type": "integer", "minimum": 0, "maximum": 23 }] })
    }
}

impl JsonSchema for Severity {
    fn schema_name() -> Cow<'static, str> {
        "Severity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": SEVERITIES }, { "type": "integer", "minimum": 0, "maximum": 7 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_numbers() {
        let pri_of = |facility, severity| Some(Facility::parse(facility)?.pri(Severity::parse(severity)?));
        assert_eq!(pri_of("USER", "INFO"), Some(14));
        assert_eq!(pri_of("local7", "LOG_DEBUG"), Some(191));
        assert_eq!(pri_of("10", " Warn "), Some(84));
        assert_eq!(pri_of("kern", "0"), Some(0));
        assert_eq!(pri_of("log_Mail", "FATAL"), Some(18));
        for (facility, severity) in [
            ("24", "info"),
            ("user", "8"),
            ("users", "info"),
            ("user", ""),
            ("-1", "0"),
            ("é_x", "info"),
            ("loé", "log_"),
        ] {
            assert_eq!(pri_of(facility, severity), None, "{facility} {severity}");
        }
    }
}
