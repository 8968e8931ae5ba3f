use logship_stage::escape::{Line, Verbatim, push_escaped};
use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Error, Fields, Formatter, Group, Log, Output, Result, Text, config};

use crate::header::{Header, Places};
use crate::timestamp::{Timestamps, offset};
use crate::{Config, Escaping};

/// Formats logs as syslog messages.
#[derive(Debug)]
pub struct SyslogFormatter {
    config: Config,
    header: Header,
    timestamps: Timestamps,
    /// The output bytes per byte of values in the last push, in sixteenths.
    expansion: usize,
}

impl Formatter for SyslogFormatter {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            transport: Transport::Syslog,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = config::parse(text)?;
        config.check()?;
        let offset = offset(&config.utc_offset).ok_or_else(|| {
            Error::config(
                "utc-offset",
                format!("{:?} is not a UTC offset; use one such as +08:00", config.utc_offset),
            )
        })?;
        let timestamps = Timestamps::new(config.rfc, offset);
        Ok(Self { header: Header::of(&config)?, timestamps, config, expansion: 24 })
    }

    fn push(&mut self, batch: &Batch) -> Result<Messages> {
        let values = batch.raw().values.len();
        let keys: Vec<_> = batch.raw().keys.iter().map(|key| self.key_text(key)).collect();
        let skip = self.separator().len();
        let mut lines = Lines {
            config: &self.config,
            header: &self.header,
            places: self.header.places(batch),
            timestamps: &mut self.timestamps,
            out: Output::with_capacity(values / 16 * self.expansion + 128 * batch.len()),
            ends: Vec::with_capacity(batch.len()),
            fields: Fields::of(batch, &keys),
            skip,
        };
        let mut shared_by_group = vec![None; batch.raw().groups.len()];
        for group in batch.groups() {
            let shared: &Shared = shared_by_group[group.index()].get_or_insert_with(|| lines.shared(&group));
            group.logs().for_each(|log| lines.push(shared, &group, &log));
        }
        let Lines { out, ends, .. } = lines;
        let bytes = out.into_bytes();
        self.expansion = (bytes.len() / (values / 16).max(1)).clamp(16, 128) + 1;
        Ok(Messages { bytes, ends, logs: vec![] })
    }
}

impl SyslogFormatter {
    /// Returns the text between two values: `||key=`.
    fn key_text(&self, key: &str) -> Text {
        let mut out = self.separator();
        self.push_escaped(&mut out, key);
        out.push(b"=");
        Text::from(out.as_bytes())
    }

    fn separator(&self) -> Output {
        let mut out = Output::default();
        self.push_escaped(&mut out, &self.config.separator);
        out
    }

    fn push_escaped(&self, out: &mut Output, text: &str) {
        match self.config.escape {
            Escaping::Breaks => push_escaped::<Line>(out, text.as_bytes(), 0..text.len()),
            Escaping::None => out.push(text.as_bytes()),
        }
    }
}

/// The parts of the header that all messages of a group share.
#[derive(Debug, Clone)]
struct Shared {
    /// The header before the timestamp; empty if it differs by log.
    before: Text,
    /// The header from the timestamp to the text. If the words differ by log, only the part after the words.
    after: Text,
}

/// Writes the messages of a batch.
struct Lines<'a> {
    config: &'a Config,
    header: &'a Header,
    places: Places<'a>,
    timestamps: &'a mut Timestamps,
    out: Output,
    ends: Vec<u32>,
    fields: Fields<'a>,
    /// The length of the separator, which is omitted before the first value.
    skip: usize,
}

impl<'a> Lines<'a> {
    fn shared(&self, group: &Group<'a>) -> Shared {
        let (mut before, mut after) = (Output::default(), Output::default());
        if !self.header.by_log {
            self.header.push_pri(&mut before, &self.places, group, None);
            self.header.push_words(&mut after, &self.places, group, None);
        }
        after.push_text(&self.header.tail(group));
        Shared { before: Text::from(before.as_bytes()), after: Text::from(after.as_bytes()) }
    }

    #[inline(always)]
    fn push(&mut self, shared: &Shared, group: &Group<'a>, log: &Log<'a>) {
        let start = self.out.len();
        if self.header.by_log {
            self.header.push_pri(&mut self.out, &self.places, group, Some(log));
        } else {
            self.out.push_text(&shared.before);
        }
        self.out.push_value(self.timestamps.of(log.time(), log.nanos().unwrap_or(0)));
        if self.header.by_log {
            self.header.push_words(&mut self.out, &self.places, group, Some(log));
        }
        self.out.push_text(&shared.after);
        let (fields, first) = log.span();
        match self.config.escape {
            Escaping::Breaks => self.fields.push::<Line>(&mut self.out, fields, first, self.skip),
            Escaping::None => self.fields.push::<Verbatim>(&mut self.out, fields, first, self.skip),
        }
        if self.config.max_bytes > 0 && self.out.len() - start > self.config.max_bytes {
            self.truncate(start);
        }
        self.ends.push(self.out.len() as u32);
    }

    /// Truncates the message that starts at `start`, between two characters. Its header is always shorter.
    #[cold]
    fn truncate(&mut self, start: usize) {
        let message = &self.out.as_bytes()[start..];
        let mut end = self.config.max_bytes;
        // Continuation bytes of a character begin with the bits 10.
        while end > 0 && message[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        self.out.truncate(start + end);
    }
}

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;
    use proptest::prelude::*;
    use syslog_loose::{ProcId, Protocol, Variant};

    use super::*;

    fn messages(config: &str, batch: &Batch) -> Vec<String> {
        let Messages { bytes, ends, logs } = SyslogFormatter::open(config).unwrap().push(batch).unwrap();
        assert!(logs.is_empty());
        assert_eq!(ends.len(), batch.len());
        let text = String::from_utf8(bytes).unwrap();
        let mut start = 0;
        let split = |&end: &u32| {
            let message = text[start..end as usize].to_owned();
            start = end as usize;
            message
        };
        ends.iter().map(split).collect()
    }

    fn batch() -> Batch {
        BatchBuilder::new()
            .group("nginx", "10.0.0.1", &[("host name", "web \"1\"]\\\n")])
            .log(
                1_484_913_043,
                &[("method", "GET"), ("path", "a\nb\r\0c\\n"), ("level", "ERROR"), ("app", "my app")],
            )
            .log(7, &[])
            .build()
    }

    #[test]
    fn message_follows_rfc_5424() {
        let found = messages(r#"{"hostname":"web-1"}"#, &batch());
        let text = "method=GET||path=a\\nb\\r\\0c\\n||level=ERROR||app=my app";
        assert_eq!(found[0], format!("<14>1 2017-01-20T11:50:43Z web-1 - - - - {text}"));
        assert_eq!(found[1], "<14>1 1970-01-01T00:00:07Z web-1 - - - - ");
    }

    #[test]
    fn message_follows_rfc_3164() {
        let config = r#"{"rfc":"3164","hostname":"web-1","tag":"app","separator":" ","facility":"local0","severity":4}"#;
        let found = messages(config, &batch());
        assert_eq!(
            found[0],
            "<132>Jan 20 11:50:43 web-1 app: method=GET path=a\\nb\\r\\0c\\n level=ERROR app=my app"
        );
        assert_eq!(found[1], "<132>Jan  1 00:00:07 web-1 app: ");
    }

    #[test]
    fn log_overrides_header_fields() {
        let config = r#"{"severity-from":"level","facility-from":"method","tag-from":"app","hostname-from":"__source__","msgid-from":"__topic__","procid":"9"}"#;
        let found = messages(config, &batch());
        assert!(
            found[0].starts_with("<11>1 2017-01-20T11:50:43Z 10.0.0.1 my_app 9 nginx - method"),
            "{}",
            found[0]
        );
        assert!(found[1].starts_with("<14>1 1970-01-01T00:00:07Z 10.0.0.1 - 9 nginx - "), "{}", found[1]);
    }

    #[test]
    fn structured_data_has_topic_source_and_tags() {
        let found = messages(r#"{"structured-data":true,"bom":true}"#, &batch());
        let data = r#"[logship@32473 topic="nginx" source="10.0.0.1" host_name="web \"1\"\]\\\n"]"#;
        assert!(found[1].ends_with(&format!("- - - - {data} \u{feff}")), "{}", found[1]);
    }

    #[test]
    fn rfc_3164_message_has_tag_and_pid() {
        let first = |config: &str| messages(config, &batch()).remove(0);
        let plain = first(r#"{"rfc":3164}"#);
        assert!(plain.starts_with("<14>Jan 20 11:50:43 - -: method=GET||"), "{plain}");
        let pid = first(r#"{"rfc":3164,"tag":"a:b [c]","procid":"77"}"#);
        assert!(pid.starts_with("<14>Jan 20 11:50:43 - a_b__c_[77]: method=GET||"), "{pid}");
        let by_log = first(r#"{"rfc":3164,"tag-from":"app","procid-from":"none","hostname-from":"path"}"#);
        assert!(by_log.starts_with(r"<14>Jan 20 11:50:43 a_b__c\n my_app: method=GET||"), "{by_log}");
    }

    #[test]
    fn last_of_repeated_values_counts() {
        let batch = BatchBuilder::new()
            .group("", "", &[("k", "first"), ("k", "last")])
            .log(7, &[("a", "1"), ("a", "2")])
            .build();
        let found = messages(r#"{"tag-from":"__tag__:k","msgid-from":"a"}"#, &batch).remove(0);
        assert_eq!(found, "<14>1 1970-01-01T00:00:07Z - last - 2 - a=1||a=2");
    }

    #[test]
    fn escapes_line_breaks_in_separator() {
        let found = messages(r#"{"separator":"\n"}"#, &batch()).remove(0);
        assert!(found.contains(r"- method=GET\npath=a\nb\r\0c\n\nlevel=ERROR\napp="), "{found}");
        let kept = messages(r#"{"separator":"\n","escape":"none"}"#, &batch()).remove(0);
        assert!(kept.contains("- method=GET\npath=a\nb\r\0c\\n\nlevel=ERROR"), "{kept}");
    }

    #[test]
    fn truncates_long_message_between_two_characters() {
        let batch = BatchBuilder::new().log(7, &[("a", &"é".repeat(600))]).build();
        let full = messages("", &batch).remove(0);
        for max in full.len() - 9..=full.len() {
            let truncated = messages(&format!(r#"{{"max-bytes":{max}}}"#), &batch).remove(0);
            assert!(
                full.starts_with(&truncated) && truncated.len() <= max && truncated.len() + 2 > max,
                "{max}: {truncated}"
            );
        }
    }

    #[test]
    fn omits_structured_data_that_is_too_long() {
        let batch = BatchBuilder::new().group(&"]".repeat(300), "", &[]).log(7, &[("a", "é")]).build();
        let found = |max| {
            let config = format!(r#"{{"max-bytes":{max},"structured-data":true}}"#);
            messages(&config, &batch).remove(0)
        };
        assert_eq!(found(1024), "<14>1 1970-01-01T00:00:07Z - - - - - a=é");
        assert!(found(2048).contains("\\]\"] a=é"));
    }

    #[test]
    fn rejects_invalid_configurations_by_setting() {
        let error = |text| SyslogFormatter::open(text).unwrap_err().to_string();
        assert!(
            error(r#"{"facility":"users"}"#).contains("facility: unknown facility \"users\": use kern, user")
        );
        assert!(error(r#"{"severity":9}"#).contains("severity: unknown severity \"9\""));
        assert!(error(r#"{"utc-offset":"8"}"#).contains("utc-offset: "));
        assert!(error(r#"{"max-bytes":100}"#).starts_with("max-bytes: 100 is too small"));
        assert!(error(r#"{"rfc":"rfc5424"}"#).starts_with("rfc: unknown syslog RFC \"rfc5424\""));
        assert!(error(r#"{"severity-from":"__time__"}"#).starts_with("severity-from: "));
        assert!(error(r#"{"host":"x"}"#).contains("unknown field `host`"));
    }

    proptest! {
        #[test]
        fn output_round_trips_through_another_reader(
            tag in "\\PC{0,60}",
            value in any::<Vec<u8>>(),
            facility in 0..24i32,
            severity in 0..8i32,
            time in 0..2_000_000_000u32,
        ) {
            // RFC 5424 allows a colon as a word, but this reader treats it as the end of an RFC 3164 header.
            prop_assume!(tag != ":");
            let fields = [("key", value.as_slice()), ("tag", tag.as_bytes())];
            let batch = BatchBuilder::new().log_bytes(time, &fields).build();
            let config = format!(r#"{{"facility":{facility},"severity":{severity},"tag-from":"tag","procid":"77"}}"#);
            let message = messages(&config, &batch).remove(0);
            prop_assert!(!message.contains(['\n', '\r', '\0']));
            let read = syslog_loose::parse_message(&message, Variant::RFC5424);
            prop_assert_eq!(read.protocol, Protocol::RFC5424(1));
            prop_assert_eq!(read.facility.map(|found| found as i32), Some(facility));
            prop_assert_eq!(read.severity.map(|found| found as i32), Some(severity));
            prop_assert_eq!(read.timestamp.unwrap().timestamp(), i64::from(time));
            prop_assert_eq!(read.procid, Some(ProcId::PID(77)));
            let breaks = |text: &str| text.replace('\n', "\\n").replace('\r', "\\r").replace('\0', "\\0");
            let text = format!("key={}||tag={}", breaks(&String::from_utf8_lossy(&value)), breaks(&tag));
            prop_assert_eq!(read.msg.trim(), text.trim());
        }
    }
}
