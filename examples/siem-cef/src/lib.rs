//! Logs as events of ArcSight's Common Event Format, for any SIEM that reads CEF over syslog:
//! `<14>Jan 20 11:50:43 web-1 CEF:0|vendor|product|1|login|login failed|7|rt=1484913043000 src=10.0.0.1 act=deny`.
//!
//! The format follows "ArcSight Common Event Format, Implementation Standard", version 26. In the header `\` and `|` are
//! escaped, in the extension `\`, `=` and line breaks. Extension keys have letters, digits and `_`.

mod config;
mod escape;
mod severity;
mod syslog;

use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Formatter, Group, Log, Origin, Place, Result, config as stage_config};

use config::Config;
use escape::{extension_key, push_header, push_value};
use severity::Severities;
use syslog::SyslogHeader;

/// Formats logs as CEF.
pub struct Cef {
    config: Config,
    severities: Severities,
    event_class_from: Option<Origin>,
    name_from: Option<Origin>,
    severity_from: Option<Origin>,
    syslog: Option<SyslogHeader>,
    /// `CEF:0|vendor|product|version|`
    device: Vec<u8>,
}

impl Formatter for Cef {
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
        config.check()?;
        let from = |path: &str, name: &Option<String>| {
            name.as_deref().map(|name| Origin::parse(path, name)).transpose()
        };
        let mut device = b"CEF:0|".to_vec();
        for part in [&config.vendor, &config.product, &config.version] {
            push_header(&mut device, part.as_bytes());
            device.push(b'|');
        }
        Ok(Self {
            severities: Severities::new(config.severity, &config.severities),
            event_class_from: from("event-class-from", &config.event_class_from)?,
            name_from: from("name-from", &config.name_from)?,
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
            event_class: self.event_class_from.as_ref().map(|origin| origin.within(batch)),
            name: self.name_from.as_ref().map(|origin| origin.within(batch)),
            severity: self.severity_from.as_ref().map(|origin| origin.within(batch)),
            config: &self.config,
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

impl Cef {
    /// Returns the text before a field's value, such as `src=`; `None` if the field is dropped.
    fn key_text(&self, name: &str) -> Option<String> {
        let own = || self.config.others.then_some(name);
        match self.config.fields.get(name).map_or_else(own, |renamed| Some(renamed.as_str()))? {
            "" if self.config.fields.contains_key(name) => None,
            name => {
                let key = extension_key(name);
                // A field called like the time must not pass for it.
                let is_own = key == self.config.time_key;
                Some(if is_own { format!("field_{key}=") } else { key + "=" })
            }
        }
    }
}

/// Writes the messages of a batch.
struct Lines<'a> {
    config: &'a Config,
    severities: &'a Severities,
    syslog: &'a mut Option<SyslogHeader>,
    device: &'a [u8],
    keys: &'a [Option<String>],
    event_class: Option<Place<'a>>,
    name: Option<Place<'a>>,
    severity: Option<Place<'a>>,
    out: Vec<u8>,
    ends: Vec<u32>,
}

impl<'a> Lines<'a> {
    fn push(&mut self, group: &Group<'a>, log: &Log<'a>) {
        let of_log = |place: &Option<Place<'a>>| place.as_ref()?.value(group, Some(log));
        let event_class = of_log(&self.event_class).unwrap_or(self.config.event_class.as_bytes());
        let name = of_log(&self.name).unwrap_or(self.config.name.as_bytes());
        let severity = self.severities.of(of_log(&self.severity));
        if let Some(header) = self.syslog {
            header.push(&mut self.out, log.time(), severity);
        }
        self.out.extend_from_slice(self.device);
        for part in [event_class, name] {
            push_header(&mut self.out, part);
            self.out.push(b'|');
        }
        self.out.extend_from_slice(severity.to_string().as_bytes());
        self.out.push(b'|');
        let start = self.out.len();
        if !self.config.time_key.is_empty() {
            let millis = u64::from(log.time()) * 1000 + u64::from(log.nanos().unwrap_or(0) / 1_000_000);
            self.out.extend_from_slice(format!("{}={millis}", self.config.time_key).as_bytes());
        }
        for field in log.fields() {
            if let Some(key) = &self.keys[field.key_index()] {
                if self.out.len() > start {
                    self.out.push(b' ');
                }
                self.out.extend_from_slice(key.as_bytes());
                push_value(&mut self.out, field.value());
            }
        }
        self.ends.push(self.out.len() as u32);
    }
}

logship_stage::export_formatter!(Cef);

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;

    use super::*;

    fn messages(config: &str, batch: &Batch) -> Vec<String> {
        let Messages { bytes, ends, logs } = Cef::open(config).unwrap().push(batch).unwrap();
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
        let config = r#"{"vendor":"acme","product":"gate","version":"2.1","hostname":"web-1","event-class-from":"event",
            "name-from":"event","severity-from":"level","fields":{"client":"src","level":"","event":""}}"#;
        let fields = [("event", "login"), ("client", "10.0.0.1"), ("level", "ERROR"), ("outcome", "denied")];
        assert_eq!(
            message(config, &fields),
            "<11>Jan 20 11:50:43 web-1 CEF:0|acme|gate|2.1|login|login|7|rt=1484913043000 src=10.0.0.1 outcome=denied"
        );
        assert_eq!(
            message("", &[]),
            "<14>Jan 20 11:50:43 - CEF:0|logship|logship|1|log|log|3|rt=1484913043000"
        );
    }

    #[test]
    fn fields_never_pass_for_the_time() {
        let config = r#"{"syslog-header":false}"#;
        assert_eq!(
            message(config, &[("rt", "1"), ("__time__", "2")]),
            "CEF:0|logship|logship|1|log|log|3|rt=1484913043000 field_rt=1 __field____time__=2"
        );
    }

    #[test]
    fn escapes_special_characters() {
        let config =
            r#"{"vendor":"a|b\\c","name-from":"n","syslog-header":false,"time-key":"","fields":{"n":""}}"#;
        let found = message(config, &[("n", "one|two\\three\nfour=4"), ("a key", "a|b=c\\d\r\ne")]);
        assert_eq!(found, r"CEF:0|a\|b\\c|logship|1|log|one\|two\\three four=4|3|a_key=a|b\=c\\d\r\ne");
    }

    #[test]
    fn replaces_invalid_utf8_and_nul() {
        let batch = BatchBuilder::new().log_bytes(7, &[("é", b"\xff\0x")]).build();
        let found = messages(r#"{"syslog-header":false,"time-key":""}"#, &batch).remove(0);
        assert_eq!(found, "CEF:0|logship|logship|1|log|log|3|_=\u{fffd}\u{fffd}x");
    }

    #[test]
    fn drops_other_fields_if_configured() {
        let config = r#"{"fields":{"b":"cs1"},"others":false,"syslog-header":false,"time-key":""}"#;
        assert_eq!(
            message(config, &[("a", "1"), ("b", "2"), ("c", "3")]),
            "CEF:0|logship|logship|1|log|log|3|cs1=2"
        );
    }

    #[test]
    fn time_has_milliseconds() {
        let batch = BatchBuilder::new().log(7, &[]).nanos(123_456_789).build();
        let found = messages(r#"{"time-key":"end","syslog-header":false}"#, &batch).remove(0);
        assert!(found.ends_with("|end=7123"), "{found}");
    }

    #[test]
    fn rejects_invalid_configuration_by_setting() {
        let error_of = |config: &str| Cef::open(config).err().unwrap().to_string();
        for (config, expected) in [
            (r#"{"severity":11}"#, "severity: 11 is out of range"),
            (r#"{"severities":{"bad":12}}"#, "severities.bad: 12 is out of range"),
            (r#"{"fields":{"a":"b c"}}"#, "fields.a: \"b c\" is not an extension key"),
            (r#"{"time-key":"r t"}"#, "time-key: \"r t\" is not an extension key"),
            (r#"{"facility":24}"#, "facility: 24 is out of range"),
            (r#"{"vendr":"x"}"#, "vendr: unknown field"),
        ] {
            assert!(error_of(config).starts_with(expected), "{}", error_of(config));
        }
    }
}
