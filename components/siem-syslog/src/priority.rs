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

/// Other names of severities.
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

/// What kind of program a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

/// How severe a message is.
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
    /// By name or number, whatever the case.
    pub fn parse(text: &str) -> Option<Self> {
        found(bare(text), &FACILITIES).map(Self)
    }

    /// PRI of a message.
    pub(crate) fn pri(self, severity: Severity) -> u8 {
        self.0 * 8 + severity.0
    }
}

impl Severity {
    /// By name or number, whatever the case.
    pub fn parse(text: &str) -> Option<Self> {
        let name = bare(text);
        let synonym = || SYNONYMS.iter().find(|(synonym, _)| synonym.eq_ignore_ascii_case(name));
        found(name, &SEVERITIES).or_else(|| synonym().map(|(_, number)| *number)).map(Self)
    }
}

/// A name without what C has before it: `info` of `LOG_INFO`.
fn bare(text: &str) -> &str {
    let text = text.trim_ascii();
    match text.split_at_checked(4) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case("log_") => name,
        _ => text,
    }
}

fn found(name: &str, names: &[&str]) -> Option<u8> {
    let number = name.parse().ok().filter(|number| *number < names.len());
    let place = || names.iter().position(|known| known.eq_ignore_ascii_case(name));
    number.or_else(place).map(|number| number as u8)
}

/// A name, or its number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
pub(crate) enum Given {
    Name(String),
    Number(u64),
}

impl Given {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Name(name) => name,
            Self::Number(number) => number.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Facility {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Given::deserialize(deserializer)?.text();
        let unknown =
            || de::Error::custom(format!("{text:?} is no facility: {}, or 0-23", FACILITIES.join(", ")));
        Self::parse(&text).ok_or_else(unknown)
    }
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Given::deserialize(deserializer)?.text();
        let unknown =
            || de::Error::custom(format!("{text:?} is no severity: {}, or 0-7", SEVERITIES.join(", ")));
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
    fn names_and_numbers_are_known() {
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
