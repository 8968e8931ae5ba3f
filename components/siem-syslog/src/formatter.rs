use chrono::FixedOffset;
use logship_stage::escape::{Line, Verbatim, push_escaped};
use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Error, Formatter, Group, Log, Members, Output, Result, Text, config};

use crate::header::{Header, Parts};
use crate::timestamp::Timestamps;
use crate::{Config, Escaping};

/// Formats logs as syslog messages.
#[derive(Debug)]
pub struct SyslogFormatter {
    config: Config,
    header: Header,
    timestamps: Timestamps,
    /// Room that a byte of a batch's values took at the last push, in sixteenths.
    growth: usize,
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
        let offset: FixedOffset = config.utc_offset.parse().map_err(|_| {
            Error::config("utc-offset", format!("{:?} is no offset such as +08:00", config.utc_offset))
        })?;
        let timestamps = Timestamps::new(config.rfc, offset);
        Ok(Self { header: Header::of(&config), timestamps, config, growth: 24 })
    }

    fn push(&mut self, batch: &Batch) -> Result<Messages> {
        let values = batch.raw().values.len();
        let keys: Vec<_> = batch.raw().keys.iter().map(|key| self.before_value(key)).collect();
        let mut lines = Lines {
            config: &self.config,
            header: &self.header,
            timestamps: &mut self.timestamps,
            batch,
            out: Output::with_capacity(values / 16 * self.growth + 128 * batch.len()),
            ends: Vec::with_capacity(batch.len()),
            members: Members::of(batch, &keys),
            skip: self.config.separator.len(),
        };
        let mut heads = vec![None; batch.raw().groups.len()];
        for group in batch.groups() {
            for log in group.logs() {
                if self.header.by_log {
                    lines.push(&lines.head(&group, &log), &log);
                } else {
                    let head: &Head = heads[group.index()].get_or_insert_with(|| lines.head(&group, &log));
                    lines.push(head, &log);
                }
            }
        }
        let Lines { out, ends, .. } = lines;
        let bytes = out.into_bytes();
        self.growth = (bytes.len() / (values / 16).max(1)).clamp(16, 128) + 1;
        Ok(Messages { bytes, ends, logs: vec![] })
    }
}

impl SyslogFormatter {
    /// What stands between two values: `||key=`.
    fn before_value(&self, key: &str) -> Text {
        let mut out = Output::default();
        out.push(self.config.separator.as_bytes());
        match self.config.escape {
            Escaping::Breaks => push_escaped::<Line>(&mut out, key.as_bytes(), 0..key.len()),
            Escaping::None => out.push(key.as_bytes()),
        }
        out.push(b"=");
        Text::from(out.as_bytes())
    }
}

/// A header, ready to be copied.
#[derive(Debug, Clone)]
struct Head {
    before: Text,
    behind: Text,
}

/// The messages of a batch.
struct Lines<'a> {
    config: &'a Config,
    header: &'a Header,
    timestamps: &'a mut Timestamps,
    batch: &'a Batch,
    out: Output,
    ends: Vec<u32>,
    members: Members<'a>,
    /// What is left out before the first value: the separator.
    skip: usize,
}

impl Lines<'_> {
    fn head(&self, group: &Group<'_>, log: &Log<'_>) -> Head {
        let Parts { before, behind } = self.header.parts(self.batch, group, log);
        Head { before: Text::from(before.as_slice()), behind: Text::from(behind.as_slice()) }
    }

    #[inline(always)]
    fn push(&mut self, head: &Head, log: &Log<'_>) {
        let begin = self.out.len();
        self.out.push_text(&head.before);
        self.out.push_value(self.timestamps.of(log.time(), log.nanos().unwrap_or(0)));
        self.out.push_text(&head.behind);
        let (fields, first) = log.span();
        match self.config.escape {
            Escaping::Breaks => self.members.push::<Line>(&mut self.out, fields, first, self.skip),
            Escaping::None => self.members.push::<Verbatim>(&mut self.out, fields, first, self.skip),
        }
        if self.config.max_bytes > 0 && self.out.len() - begin > self.config.max_bytes {
            self.cut(begin);
        }
        self.ends.push(self.out.len() as u32);
    }

    /// Cuts the message that begins at `begin`, between two characters.
    #[cold]
    fn cut(&mut self, begin: usize) {
        let message = &self.out.as_bytes()[begin..];
        let mut end = self.config.max_bytes;
        // The bytes of a character behind its first begin with the bits 10.
        while end > 0 && message[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        self.out.truncate(begin + end);
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
        let mut begin = 0;
        let cut = |&end: &u32| {
            let message = text[begin..end as usize].to_owned();
            begin = end as usize;
            message
        };
        ends.iter().map(cut).collect()
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
    fn a_message_is_that_of_rfc_5424() {
        let found = messages(r#"{"hostname":"web-1"}"#, &batch());
        let text = "method=GET||path=a\\nb\\r\\0c\\n||level=ERROR||app=my app";
        assert_eq!(found[0], format!("<14>1 2017-01-20T11:50:43Z web-1 - - - - {text}"));
        assert_eq!(found[1], "<14>1 1970-01-01T00:00:07Z web-1 - - - - ");
    }

    #[test]
    fn a_message_is_that_of_rfc_3164() {
        let config = r#"{"rfc":"3164","hostname":"web-1","tag":"app","separator":" ","facility":"local0","severity":4}"#;
        let found = messages(config, &batch());
        assert_eq!(
            found[0],
            "<132>Jan 20 11:50:43 web-1 app: method=GET path=a\\nb\\r\\0c\\n level=ERROR app=my app"
        );
        assert_eq!(found[1], "<132>Jan  1 00:00:07 web-1 app: ");
    }

    #[test]
    fn header_fields_are_from_the_log_where_it_has_them() {
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
    fn structured_data_have_topic_source_and_tags() {
        let found = messages(r#"{"structured-data":true,"bom":true}"#, &batch());
        let data = r#"[logship@32473 topic="nginx" source="10.0.0.1" host_name="web \"1\"\]\\\n"]"#;
        assert!(found[1].ends_with(&format!("- - - - {data} \u{feff}")), "{}", found[1]);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let batch = BatchBuilder::new().log(7, &[("a", "éééé")]).build();
        let whole = messages("", &batch).remove(0);
        for most in whole.len() - 9..=whole.len() {
            let cut = messages(&format!(r#"{{"max-bytes":{most}}}"#), &batch).remove(0);
            assert!(whole.starts_with(&cut) && cut.len() <= most && cut.len() + 2 > most, "{most}: {cut}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_named() {
        let error = |text| SyslogFormatter::open(text).unwrap_err().to_string();
        assert!(error(r#"{"facility":"users"}"#).contains("facility: \"users\" is no facility: kern, user"));
        assert!(error(r#"{"severity":9}"#).contains("severity: \"9\" is no severity"));
        assert!(error(r#"{"utc-offset":"8"}"#).contains("utc-offset: "));
        assert!(error(r#"{"host":"x"}"#).contains("unknown field `host`"));
    }

    proptest! {
        #[test]
        fn another_reader_reads_what_was_written(
            tag in "\\PC{0,60}",
            value in any::<Vec<u8>>(),
            facility in 0..24i32,
            severity in 0..8i32,
            time in 0..2_000_000_000u32,
        ) {
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
