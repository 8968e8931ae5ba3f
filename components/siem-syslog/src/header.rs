use logship_stage::{Batch, Group, Log};

use crate::priority::pri;
use crate::{Config, Facility, Rfc, Severity};

/// Where a value is from.
#[derive(Debug, Clone)]
enum Origin {
    Topic,
    Source,
    Tag(String),
    Field(String),
}

impl Origin {
    fn of(name: &str) -> Self {
        match name {
            "__topic__" => Self::Topic,
            "__source__" => Self::Source,
            name => match name.strip_prefix("__tag__:") {
                Some(tag) => Self::Tag(tag.to_owned()),
                None => Self::Field(name.to_owned()),
            },
        }
    }

    /// The value, if there is one with something in it.
    fn find<'a>(&self, batch: &'a Batch, group: &Group<'a>, log: &Log<'a>) -> Option<&'a [u8]> {
        let found = match self {
            Self::Topic => Some(group.topic().as_bytes()),
            Self::Source => Some(group.source().as_bytes()),
            Self::Tag(key) => {
                let tags: &'a [_] = group.tags();
                tags.iter().find(|tag| tag.key == *key).map(|tag| tag.value.as_bytes())
            }
            Self::Field(key) => {
                let index = batch.raw().keys.iter().position(|known| known == key)?;
                log.fields().find(|field| field.key_index() == index).map(|field| field.value())
            }
        };
        found.filter(|value| !value.is_empty())
    }
}

/// A value that is the same for all logs, or from the log.
#[derive(Debug, Clone)]
struct Choice {
    constant: String,
    from: Option<Origin>,
}

/// What stands before the text of a message.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    rfc: Rfc,
    facility: (Facility, Option<Origin>),
    severity: (Severity, Option<Origin>),
    hostname: Choice,
    tag: Choice,
    procid: Choice,
    msgid: Choice,
    structured_data: Option<String>,
    bom: bool,
    /// Whether it differs within a group.
    pub(crate) by_log: bool,
}

/// A header: what stands before the timestamp, and behind it.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) before: Vec<u8>,
    pub(crate) behind: Vec<u8>,
}

impl Header {
    pub(crate) fn of(config: &Config) -> Self {
        let from = |name: &Option<String>| name.as_deref().map(Origin::of);
        let choice =
            |constant: &str, name: &Option<String>| Choice { constant: constant.into(), from: from(name) };
        let all = [
            &config.facility_from,
            &config.severity_from,
            &config.hostname_from,
            &config.tag_from,
            &config.procid_from,
            &config.msgid_from,
        ];
        Self {
            rfc: config.rfc,
            facility: (config.facility, from(&config.facility_from)),
            severity: (config.severity, from(&config.severity_from)),
            hostname: choice(&config.hostname, &config.hostname_from),
            tag: choice(&config.tag, &config.tag_from),
            procid: choice(&config.procid, &config.procid_from),
            msgid: choice(&config.msgid, &config.msgid_from),
            structured_data: config.structured_data.then(|| config.sd_id.clone()),
            bom: config.bom,
            by_log: all.into_iter().any(|name| matches!(from(name), Some(Origin::Field(_)))),
        }
    }

    /// The header of a log: where it is not by log, of any of its group.
    pub(crate) fn parts(&self, batch: &Batch, group: &Group<'_>, log: &Log<'_>) -> Parts {
        let text = |from: &Option<Origin>| {
            let found = from.as_ref()?.find(batch, group, log)?;
            Some(String::from_utf8_lossy(found).into_owned())
        };
        let (facility, from) = &self.facility;
        let facility = text(from).and_then(|text| Facility::parse(&text)).unwrap_or(*facility);
        let (severity, from) = &self.severity;
        let severity = text(from).and_then(|text| Severity::parse(&text)).unwrap_or(*severity);
        let pri = pri(facility, severity);
        let value = |choice: &Choice, longest| {
            let found = text(&choice.from).unwrap_or_else(|| choice.constant.clone());
            printable(&found, longest)
        };
        let hostname = value(&self.hostname, 255);
        if self.rfc == Rfc::Rfc3164 {
            let tag = tag(&text(&self.tag.from).unwrap_or_else(|| self.tag.constant.clone()));
            let colon = if tag == "-" { "" } else { ":" };
            return Parts {
                before: format!("<{pri}>").into(),
                behind: format!(" {hostname} {tag}{colon} ").into(),
            };
        }
        let (tag, procid, msgid) = (value(&self.tag, 48), value(&self.procid, 128), value(&self.msgid, 32));
        let data = self.structured_data.as_ref().map_or_else(|| "-".into(), |id| structured(id, group));
        let mut behind = format!(" {hostname} {tag} {procid} {msgid} {data} ").into_bytes();
        if self.bom {
            behind.extend_from_slice("\u{feff}".as_bytes());
        }
        Parts { before: format!("<{pri}>1 ").into(), behind }
    }
}

/// What RFC 5424 allows in a header: printable ASCII, not too much, and a dash for nothing.
fn printable(text: &str, longest: usize) -> String {
    let letter = |letter: char| if letter.is_ascii_graphic() { letter } else { '_' };
    let kept: String = text.chars().take(longest).map(letter).collect();
    if kept.is_empty() { "-".into() } else { kept }
}

/// What RFC 3164 allows as a tag: letters and digits, 32 at most; brackets and dashes are what everybody has besides.
fn tag(text: &str) -> String {
    let letter = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || "-_.[]/".contains(letter) => letter,
        _ => '_',
    };
    let kept: String = text.chars().take(32).map(letter).collect();
    if kept.is_empty() { "-".into() } else { kept }
}

/// Topic, source and tags as an element of structured data.
fn structured(id: &str, group: &Group<'_>) -> String {
    let mut element = format!("[{}", name(id));
    let mut push = |key: &str, value: &str| {
        element.push_str(&format!(" {}=\"", name(key)));
        for letter in value.chars() {
            if matches!(letter, '"' | '\\' | ']') {
                element.push('\\');
            }
            match letter {
                // No message is two.
                '\n' => element.push_str("\\n"),
                '\r' => element.push_str("\\r"),
                '\0' => element.push_str("\\0"),
                letter => element.push(letter),
            }
        }
        element.push('"');
    };
    if !group.topic().is_empty() {
        push("topic", group.topic());
    }
    if !group.source().is_empty() {
        push("source", group.source());
    }
    group.tags().iter().for_each(|tag| push(&tag.key, &tag.value));
    element.push(']');
    element
}

/// An SD-NAME: as in a header, without what ends it.
fn name(text: &str) -> String {
    printable(text, 32).replace(['=', ']', '"'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_can_not_hold_is_replaced() {
        assert_eq!(printable("", 5), "-");
        assert_eq!(printable("a b\né", 10), "a_b__");
        assert_eq!(printable("abcdef", 5), "abcde");
        assert_eq!(name("a=b]\"c d"), "a_b__c_d");
        assert_eq!(tag("app[7]: x"), "app[7]__x");
    }
}
