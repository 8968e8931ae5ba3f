//! Logs as events of the Log Event Extended Format, for IBM QRadar:
//! `<14>Jan 20 11:50:43 web-1 LEEF:2.0|vendor|product|1|login|x09|devTime=1484913043000	sev=7	src=10.0.0.1`.
//!
//! The format follows "QRadar Log Event Extended Format (LEEF) Guide", version 2. It has no escapes: characters that
//! would end a value become spaces. These are the pipe in the header, and the delimiter and line breaks in attributes.

mod config;
mod severity;
mod syslog;
mod text;

use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Formatter, Group, Log, Origin, Place, Result, config as stage_config};

use config::{Config, Delimiter, Version};
use severity::Severities;
use syslog::SyslogHeader;
use text::{attribute_key, push_attribute, push_header};

/// The longest event id that QRadar accepts, in characters.
const MAX_ID_CHARS: usize = 255;

/// Formats logs as LEEF.
pub struct Leef {
    config: Config,
    delimiter: Delimiter,
    severities: Severities,
    event_id_from: Option<Origin>,
    severity_from: Option<Origin>,
    syslog: Option<SyslogHeader>,
    /// `LEEF:2.0|vendor|product|version|`
    device: Vec<u8>,
}

impl Formatter for Leef {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            transport: Transport::Syslog,
            config_schema: stage_config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = stage_config::parse(text)?;
        let delimiter = config.check()?;
        let from = |path: &str, name: &Option<String>| {
            name.as_deref().map(|name| Origin::parse(path, name)).transpose()
        };
        let mut device = format!("LEEF:{}|", config.leef.number()).into_bytes();
        for part in [&config.vendor, &config.product, &config.version] {
            push_header(&mut device, part.as_bytes(), usize::MAX);
            device.push(b'|');
        }
        Ok(Self {
            delimiter,
            severities: Severities::new(&config.severities),
            event_id_from: from("event-id-from", &config.event_id_from)?,
            severity_from: from("severity-from", &config.severity_from)?,
            syslog: config.syslog_header.then(|| SyslogHeader::new(config.facility, &config.hostname)),
            device,
            config,
        })
    }

    fn push(&mut self, batch: &Batch) -> Result<Messages> {
        // Computed once per batch, so that each field costs one table lookup.
        let keys: Vec<_> = batch.raw().keys.iter().map(|name| self.key_text(name)).collect();
        let mut lines = Lines {
            event_id: self.event_id_from.as_ref().map(|origin| origin.within(batch)),
            severity: self.severity_from.as_ref().map(|origin| origin.within(batch)),
            config: &self.config,
            delimiter: &self.delimiter,
            severities: &self.severities,
            syslog: &mut self.syslog,
            device: &self.device,
            keys: &keys,
            out: Vec::with_capacity(batch.raw().values.len() * 2 + 160 * batch.len()),
            ends: Vec::with_capacity(batch.len()),
        };
        for group in batch.groups() {
            group.logs().for_each(|log| lines.push(&group, &log));
        }
        Ok(Messages { bytes: lines.out, ends: lines.ends, logs: vec![] })
    }
}

impl Leef {
    /// Returns the text before a field's value, such as `src=`; `None` if the field is dropped.
    fn key_text(&self, name: &str) -> Option<String> {
        let own = || self.config.others.then_some(name);
        match self.config.fields.get(name).map_or_else(own, |renamed| Some(renamed.as_str()))? {
            "" if self.config.fields.contains_key(name) => None,
            name => {
                let key = attribute_key(name);
                // A field called like the time or the severity must not pass for it.
                let is_own =
                    key == "devTime" && self.config.dev_time || key == "sev" && self.severity_from.is_some();
                Some(if is_own { format!("field_{key}=") } else { key + "=" })
            }
        }
    }
}

/// Writes the messages of a batch.
struct Lines<'a> {
    config: &'a Config,
    delimiter: &'a Delimiter,
    severities: &'a Severities,
    syslog: &'a mut Option<SyslogHeader>,
    device: &'a [u8],
    keys: &'a [Option<String>],
    event_id: Option<Place<'a>>,
    severity: Option<Place<'a>>,
    out: Vec<u8>,
    ends: Vec<u32>,
}

impl<'a> Lines<'a> {
    fn push(&mut self, group: &Group<'a>, log: &Log<'a>) {
        let of_log = |place: &Option<Place<'a>>| place.as_ref()?.value(group, Some(log));
        let event_id = of_log(&self.event_id).unwrap_or(self.config.event_id.as_bytes());
        let severity = self.severities.of(of_log(&self.severity));
        if let Some(header) = self.syslog {
            header.push(&mut self.out, log.time(), severity);
        }
        self.out.extend_from_slice(self.device);
        push_header(&mut self.out, event_id, MAX_ID_CHARS);
        self.out.push(b'|');
        if self.config.leef == Version::Two {
            self.out.extend_from_slice(self.delimiter.in_header().as_bytes());
            self.out.push(b'|');
        }
        let start = self.out.len();
        if self.config.dev_time {
            let millis = u64::from(log.time()) * 1000 + u64::from(log.nanos().unwrap_or(0) / 1_000_000);
            self.push_attribute_pair(start, "devTime=", millis.to_string().as_bytes());
        }
        if let Some(severity) = severity {
            self.push_attribute_pair(start, "sev=", severity.to_string().as_bytes());
        }
        let keys = self.keys;
        for field in log.fields() {
            if let Some(key) = &keys[field.key_index()] {
                self.push_attribute_pair(start, key, field.value());
            }
        }
        self.ends.push(self.out.len() as u32);
    }

    fn push_attribute_pair(&mut self, start: usize, key: &str, value: &[u8]) {
        if self.out.len() > start {
            self.out.extend_from_slice(self.delimiter.text().as_bytes());
        }
        self.out.extend_from_slice(key.as_bytes());
        push_attribute(&mut self.out, value, self.delimiter.character());
    }
}

logship_stage::export_formatter!(Leef);

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;

    use super::*;

    fn messages(config: &str, batch: &Batch) -> Vec<String> {
        let Messages { bytes, ends, logs } = Leef::open(config).unwrap().push(batch).unwrap();
        assert!(logs.is_empty() && ends.len() == batch.len());
        let mut start = 0;
        let split = |&end: &u32| {
            let message = String::from_utf8(bytes[start..end as usize].to_vec()).unwrap();
            start = end as usize;
            message
        };
        ends.iter().map(split).collect()
    }

    fn message(config: &str, fields: &[(&str, &str)]) -> String {
        messages(config, &BatchBuilder::new().log(1_484_913_043, fields).build()).remove(0)
    }

    #[test]
    fn formats_log_as_event() {
        let config = r#"{"vendor":"acme","product":"gate","version":"2.1","hostname":"web-1","event-id-from":"event",
            "severity-from":"level","fields":{"client":"src","level":"","event":""}}"#;
        let fields = [("event", "login"), ("client", "10.0.0.1"), ("level", "ERROR"), ("outcome", "a=b c")];
        assert_eq!(
            message(config, &fields),
            "<11>Jan 20 11:50:43 web-1 LEEF:2.0|acme|gate|2.1|login|x09|devTime=1484913043000\tsev=7\tsrc=10.0.0.1\toutcome=a=b c"
        );
        assert_eq!(
            message("", &[]),
            "<14>Jan 20 11:50:43 - LEEF:2.0|logship|logship|1|log|x09|devTime=1484913043000"
        );
    }

    #[test]
    fn fields_never_pass_for_time_or_severity() {
        let config = r#"{"syslog-header":false,"severity-from":"level"}"#;
        let found = message(config, &[("devTime", "1"), ("sev", "1"), ("level", "ERROR")]);
        let own = "devTime=1484913043000\tsev=7";
        assert_eq!(
            found,
            format!("LEEF:2.0|logship|logship|1|log|x09|{own}\tfield_devTime=1\tfield_sev=1\tlevel=ERROR")
        );
        let plain = message(r#"{"syslog-header":false,"dev-time":false}"#, &[("devTime", "1"), ("sev", "1")]);
        assert_eq!(plain, "LEEF:2.0|logship|logship|1|log|x09|devTime=1\tsev=1");
    }

    #[test]
    fn uses_configured_delimiter() {
        let plain = r#""syslog-header":false,"dev-time":false"#;
        let fields = [("a", "1^2\t3"), ("b", "x")];
        let caret = message(&format!(r#"{{"delimiter":"^",{plain}}}"#), &fields);
        assert_eq!(caret, "LEEF:2.0|logship|logship|1|log|^|a=1 2\t3^b=x");
        let bar = message(&format!(r#"{{"delimiter":"¦",{plain}}}"#), &fields);
        assert_eq!(bar, "LEEF:2.0|logship|logship|1|log|xA6|a=1^2\t3¦b=x");
        let old = message(&format!(r#"{{"leef":"1.0",{plain}}}"#), &fields);
        assert_eq!(old, "LEEF:1.0|logship|logship|1|log|a=1^2 3\tb=x");
    }

    #[test]
    fn replaces_terminators_by_spaces() {
        let config = r#"{"vendor":"a|b","event-id-from":"id","dev-time":false,"syslog-header":false,"fields":{"id":""}}"#;
        let found = message(config, &[("id", "x|y\nz"), ("a key", "1\t2\r\n3|4=5\\6")]);
        assert_eq!(found, "LEEF:2.0|a b|logship|1|x y z|x09|a_key=1 2  3|4=5\\6");
        let long = message(config, &[("id", &"é".repeat(300))]);
        assert_eq!(long, format!("LEEF:2.0|a b|logship|1|{}|x09|", "é".repeat(255)));
    }

    #[test]
    fn replaces_invalid_utf8_and_nul() {
        let batch = BatchBuilder::new().log_bytes(7, &[("é", b"\xff\0x")]).build();
        let found = messages(r#"{"syslog-header":false,"dev-time":false}"#, &batch).remove(0);
        assert_eq!(found, "LEEF:2.0|logship|logship|1|log|x09|_=\u{fffd}\u{fffd}x");
    }

    #[test]
    fn rejects_invalid_configuration_by_setting() {
        let error_of = |config: &str| Leef::open(config).err().unwrap().to_string();
        for (config, expected) in [
            (r#"{"severities":{"bad":0}}"#, "severities.bad: 0 is out of range"),
            (r#"{"fields":{"a":"b c"}}"#, "fields.a: \"b c\" is not an attribute key"),
            (r#"{"facility":24}"#, "facility: 24 is out of range"),
            (r#"{"delimiter":"ab"}"#, "delimiter: \"ab\" is not a single character"),
            (r#"{"delimiter":"|"}"#, "delimiter: \"|\" occurs"),
            (r#"{"delimiter":"a"}"#, "delimiter: \"a\" occurs"),
            (r#"{"delimiter":"^","leef":"1.0"}"#, "delimiter: LEEF 1.0 always uses tabs"),
            (r#"{"leef":"3"}"#, "leef: unknown variant"),
        ] {
            assert!(error_of(config).starts_with(expected), "{}", error_of(config));
        }
    }
}
