use logship_stage::escape::{Json, push_escaped};
use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Fields, Formatter, Group, Log, Output, Place, Repeats, Result, Text, config};

use crate::json_fields::{self, JsonFields};
use crate::metadata::Metadata;
use crate::{Config, Format, repeated};

/// Formats logs as events.
#[derive(Debug)]
pub struct HecFormatter {
    config: Config,
    metadata: Metadata,
    /// The escaped separator between two fields of a text.
    separator: Text,
    /// The output bytes per byte of values in the last push, in sixteenths.
    expansion: usize,
}

/// The default separator between two fields of a text.
const DEFAULT_SEPARATOR: &str = "||";

impl Formatter for HecFormatter {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            transport: Transport::Hec,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = config::parse(text)?;
        config.check()?;
        let separator = escaped(config.separator.as_deref().unwrap_or(DEFAULT_SEPARATOR));
        Ok(Self { metadata: Metadata::of(&config)?, separator, config, expansion: 32 })
    }

    fn push(&mut self, batch: &Batch) -> Result<Messages> {
        let values = batch.raw().values.len();
        let keys: Vec<_> = batch.raw().keys.iter().map(|key| self.key_text(key)).collect();
        let parsed = JsonFields::of(&self.config.json_fields);
        let mut events = Events {
            formatter: self,
            batch,
            places: self.metadata.places(batch),
            out: Output::with_capacity(values / 16 * self.expansion + 128 * batch.len()),
            ends: Vec::with_capacity(batch.len()),
            fields: Fields::of(batch, &keys),
            repeats: if self.config.format == Format::Json { Repeats::of(batch) } else { None },
        };
        let mut shared_by_group = vec![None; batch.raw().groups.len()];
        for group in batch.groups() {
            let shared: &Shared =
                shared_by_group[group.index()].get_or_insert_with(|| events.shared(&group, &parsed));
            group.logs().for_each(|log| events.push(shared, &group, &log));
        }
        let Events { out, ends, .. } = events;
        let bytes = out.into_bytes();
        self.expansion = (bytes.len() / (values / 16).max(1)).clamp(16, 128) + 1;
        Ok(Messages { bytes, ends, logs: vec![] })
    }
}

impl HecFormatter {
    /// Returns the text between two values. In JSON it is `","key":"`: it ends the previous string, names the next
    /// field and begins its string. In text it is `||key=`.
    fn key_text(&self, key: &str) -> Text {
        let mut out = Output::default();
        let (before, after) = match self.config.format {
            Format::Text => (&self.separator, b"=".as_slice()),
            Format::Json => (&Text::from(b"\",\"".as_slice()), b"\":\"".as_slice()),
        };
        out.push_text(before);
        push_escaped::<Json>(&mut out, key.as_bytes(), 0..key.len());
        out.push(after);
        Text::from(out.as_bytes())
    }

    /// Returns the number of bytes of a key text to omit before the first value.
    fn first_skip(&self) -> usize {
        match self.config.format {
            Format::Json => 2,
            Format::Text => self.separator.len(),
        }
    }
}

/// Returns a text escaped for a JSON string.
fn escaped(text: &str) -> Text {
    let mut out = Output::default();
    push_escaped::<Json>(&mut out, text.as_bytes(), 0..text.len());
    Text::from(out.as_bytes())
}

/// The parts that all events of a group share.
#[derive(Debug, Clone)]
struct Shared {
    /// The text up to the time.
    before_time: Text,
    /// The text from the time to the first field.
    before_fields: Text,
    /// True if `before_fields` has a value, whose string is still open.
    in_string: bool,
    /// By key index, true if the field is JSON; `None` if no field is.
    json: Option<Vec<bool>>,
}

/// Writes the events of a batch.
struct Events<'a> {
    formatter: &'a HecFormatter,
    batch: &'a Batch,
    /// The metadata's origins, looked up in the batch.
    places: Vec<Option<Place<'a>>>,
    out: Output,
    ends: Vec<u32>,
    fields: Fields<'a>,
    /// The keys that logs repeat, if the fields become the members of an object.
    repeats: Option<Repeats>,
}

impl<'a> Events<'a> {
    fn shared(&self, group: &Group<'a>, parsed: &JsonFields<'_>) -> Shared {
        let HecFormatter { config, metadata, .. } = self.formatter;
        let mut before_time = Output::default();
        metadata.push(&mut before_time, &self.places, group, None);
        let mut fields = vec![];
        if config.reserved {
            fields.push(("__topic__".to_owned(), group.topic()));
            fields.push(("__source__".to_owned(), group.source()));
        }
        if config.tags {
            let tags = group.distinct_tags().into_iter();
            fields.extend(tags.map(|tag| (format!("__tag__:{}", tag.key), tag.value.as_str())));
        }
        let mut before_fields = Output::default();
        before_fields.push(match config.format {
            Format::Json => b",\"event\":{",
            Format::Text => b",\"event\":\"",
        });
        let mut skip = self.formatter.first_skip();
        for (key, value) in &fields {
            before_fields.push_text_from(&self.formatter.key_text(key), skip);
            push_escaped::<Json>(&mut before_fields, value.as_bytes(), 0..value.len());
            skip = 0;
        }
        let json = match config.format {
            Format::Json => parsed.keys(self.batch, group),
            Format::Text => None,
        };
        Shared {
            before_time: Text::from(before_time.as_bytes()),
            before_fields: Text::from(before_fields.as_bytes()),
            in_string: !fields.is_empty(),
            json,
        }
    }

    #[inline(always)]
    fn push(&mut self, shared: &Shared, group: &Group<'a>, log: &Log<'a>) {
        if self.formatter.metadata.by_log {
            self.formatter.metadata.push(&mut self.out, &self.places, group, Some(log));
        } else {
            self.out.push_text(&shared.before_time);
        }
        self.out.push_value(itoa::Buffer::new().format(log.time()).as_bytes());
        if let Some(nanos) = log.nanos().filter(|nanos| *nanos > 0) {
            // The extra leading digit keeps leading zeros; it is dropped afterwards.
            self.out.push_byte(b'.');
            self.out.push_value(&itoa::Buffer::new().format(1_000_000_000 + nanos).as_bytes()[1..]);
        }
        self.out.push_text(&shared.before_fields);
        let (fields, begin) = log.span();
        if fields.is_empty() && !shared.in_string {
            self.push_empty(log);
        } else if self.repeats.as_ref().is_some_and(|repeats| repeats.overlap(&fields)) {
            self.push_repeated(shared, log);
        } else if let Some(json) = &shared.json {
            self.push_with_json(shared, json, log);
        } else {
            let skip = if shared.in_string { 0 } else { self.formatter.first_skip() };
            self.fields.push::<Json>(&mut self.out, fields, begin, skip);
            self.out.push_value(match self.formatter.config.format {
                Format::Json => b"\"}}".as_slice(),
                Format::Text => b"\"}",
            });
        }
        self.ends.push(self.out.len() as u32);
    }

    /// Appends a placeholder for a log without fields: Splunk rejects blank events.
    #[cold]
    fn push_empty(&mut self, log: &Log<'_>) {
        match self.formatter.config.format {
            Format::Json => self.out.push(format!("\"__time__\":{}}}}}", log.time()).as_bytes()),
            Format::Text => self.out.push(b"-\"}"),
        }
    }

    /// Appends the fields of a log that repeats a key.
    #[cold]
    fn push_repeated(&mut self, shared: &Shared, log: &Log<'_>) {
        self.out.push(if shared.in_string { b"\"," } else { b"" });
        self.out.push(&repeated::members(log, shared.json.as_deref()));
        self.out.push(b"}}");
    }

    /// Appends the fields of a log with JSON fields.
    fn push_with_json(&mut self, shared: &Shared, json: &[bool], log: &Log<'_>) {
        // True if the last value was a string, whose closing quote is still missing; `None` before the first value.
        let mut last = shared.in_string.then_some(true);
        let (fields, mut begin) = log.span();
        for (field, at) in log.fields().zip(fields) {
            let parsed = if json[field.key_index()] { json_fields::json(field.value()) } else { None };
            let end = field.range().end;
            match (parsed, last) {
                (None, Some(true)) => {
                    self.fields.push_field::<Json>(&mut self.out, at, begin, 0);
                }
                (None, last) => {
                    self.out.push(if last.is_some() { b"," } else { b"" });
                    self.fields.push_field::<Json>(&mut self.out, at, begin, 2);
                }
                (Some(value), _) => {
                    self.out.push(match last {
                        Some(true) => b"\",\"".as_slice(),
                        Some(false) => b",\"",
                        None => b"\"",
                    });
                    push_escaped::<Json>(&mut self.out, field.key().as_bytes(), 0..field.key().len());
                    self.out.push(b"\":");
                    self.out.push(&value);
                    last = Some(false);
                    begin = end;
                    continue;
                }
            }
            last = Some(true);
            begin = end;
        }
        self.out.push(if last == Some(true) { b"\"}}" } else { b"}}" });
    }
}

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn events(config: &str, batch: &Batch) -> Vec<String> {
        let Messages { bytes, ends, logs } = HecFormatter::open(config).unwrap().push(batch).unwrap();
        assert!(logs.is_empty());
        assert_eq!(ends.len(), batch.len());
        let text = String::from_utf8(bytes).unwrap();
        let mut begin = 0;
        let cut = |&end: &u32| {
            let event = text[begin..end as usize].to_owned();
            begin = end as usize;
            event
        };
        ends.iter().map(cut).collect()
    }

    fn batch() -> Batch {
        BatchBuilder::new()
            .group("nginx", "10.0.0.1", &[("host", "web-1")])
            .log(1_484_913_043, &[("z", "1"), ("a", "né \"q\"\n"), ("z", "2")])
            .log(7, &[])
            .build()
    }

    #[test]
    fn event_has_time_and_fields_in_order() {
        let fields = r#"{"z":["1","2"],"a":"né \"q\"\n"}"#;
        let plain = format!(r#"{{"time":1484913043,"event":{fields}}}"#);
        assert_eq!(events("", &batch()), [&plain, r#"{"time":7,"event":{"__time__":7}}"#]);
        let with = events(r#"{"reserved":true,"tags":true}"#, &batch());
        let shared = r#""__topic__":"nginx","__source__":"10.0.0.1","__tag__:host":"web-1""#;
        assert_eq!(with[0], plain.replace(r#"{"z""#, &format!(r#"{{{shared},"z""#)));
        assert_eq!(with[1], format!(r#"{{"time":7,"event":{{{shared}}}}}"#));
    }

    #[test]
    fn text_has_keys_values_and_separator() {
        let text = events(r#"{"format":"text"}"#, &batch());
        assert_eq!(text[0], r#"{"time":1484913043,"event":"z=1||a=né \"q\"\n||z=2"}"#);
        assert_eq!(text[1], r#"{"time":7,"event":"-"}"#);
        let other = events(r#"{"format":"text","separator":"\t","reserved":true}"#, &batch());
        assert!(other[0].contains(r#""__topic__=nginx\t__source__=10.0.0.1\tz=1\ta="#), "{}", other[0]);
    }

    #[test]
    fn metadata_is_constant_or_from_the_log() {
        let config = r#"{"sourcetype":"sls","index":"main","host":"none","host-from":"__tag__:host","source-from":"__source__"}"#;
        let shared = r#"{"sourcetype":"sls","index":"main","source":"10.0.0.1","host":"web-1","time":7,"#;
        assert!(events(config, &batch())[1].starts_with(shared), "{}", events(config, &batch())[1]);
        let by_log = events(r#"{"index":"main","index-from":"a","source-from":"no"}"#, &batch());
        assert!(by_log[0].starts_with(r#"{"index":"né \"q\"\n","time":1484913043,"#), "{}", by_log[0]);
        assert!(by_log[1].starts_with(r#"{"index":"main","time":7,"#), "{}", by_log[1]);
        let last = events(r#"{"index-from":"z"}"#, &batch());
        assert!(last[0].starts_with(r#"{"index":"2","time""#), "{}", last[0]);
    }

    #[test]
    fn embeds_json_fields_by_topic() {
        let batch = BatchBuilder::new()
            .group("audit", "", &[])
            .log(1, &[("event", "{\"n\": 1.10}"), ("x", "[1]"), ("event", "[]")])
            .log(1, &[("x", "1"), ("event", "{broken"), ("event", "2")])
            .group("other", "", &[])
            .log(1, &[("event", "{}")])
            .build();
        let found = events(r#"{"json-fields":{"audit":["event"]}}"#, &batch);
        assert_eq!(found[0], r#"{"time":1,"event":{"event":[{"n":1.10},[]],"x":"[1]"}}"#);
        assert_eq!(found[1], r#"{"time":1,"event":{"x":"1","event":["{broken",2]}}"#);
        assert_eq!(found[2], r#"{"time":1,"event":{"event":"{}"}}"#);
        let all = events(r#"{"json-fields":{"*":["event","x"]},"reserved":true}"#, &batch);
        let shared = r#"{"time":1,"event":{"__topic__":"audit","__source__":"","#;
        assert_eq!(all[0], format!(r#"{shared}"event":[{{"n":1.10}},[]],"x":[1]}}}}"#));
    }

    #[test]
    fn no_member_occurs_twice_or_is_forged() {
        let batch = BatchBuilder::new()
            .group("t", "10.0.0.1", &[("host", "web-1"), ("host", "web-2")])
            .log(
                7,
                &[
                    ("a", "1"),
                    ("__source__", "forged"),
                    ("a", "2"),
                    ("__tag__:host", "forged"),
                    ("__time__", "1"),
                ],
            )
            .build();
        let shared = r#""__topic__":"t","__source__":"10.0.0.1","__tag__:host":"web-2","#;
        let fields = r#""a":["1","2"],"__field__:__source__":"forged","__field__:__tag__:host":"forged","__field__:__time__":"1""#;
        let with = events(r#"{"reserved":true,"tags":true}"#, &batch);
        assert_eq!(with, [format!(r#"{{"time":7,"event":{{{shared}{fields}}}}}"#)]);
        assert_eq!(events("", &batch), [format!(r#"{{"time":7,"event":{{{fields}}}}}"#)]);
        let text = events(r#"{"format":"text","reserved":true}"#, &batch);
        assert!(!text[0].contains("||__source__=forged"), "{}", text[0]);
        let empty = BatchBuilder::new().log(1, &[("", "1"), ("", "2")]).build();
        assert_eq!(events("", &empty), [r#"{"time":1,"event":{"":["1","2"]}}"#]);
    }

    #[test]
    fn nanoseconds_are_the_fraction_of_the_time() {
        let batch = BatchBuilder::new().log(1, &[("a", "b")]).nanos(5).build();
        assert_eq!(events("", &batch), [r#"{"time":1.000000005,"event":{"a":"b"}}"#]);
    }

    #[test]
    fn rejects_invalid_configurations_by_setting() {
        let error = |text| HecFormatter::open(text).unwrap_err().to_string();
        assert!(error(r#"{"token":"x"}"#).contains("unknown field `token`"));
        assert!(error(r#"{"format":"xml"}"#).starts_with("format: "), "{}", error(r#"{"format":"xml"}"#));
        assert!(error(r#"{"json-fields":{"t":"event"}}"#).starts_with("json-fields.t: "));
        assert!(error(r#"{"host-from":"__time__"}"#).starts_with("host-from: "));
        assert!(error(r#"{"separator":", "}"#).starts_with("separator: "));
        assert!(error(r#"{"format":"text","json-fields":{"*":["a"]}}"#).starts_with("json-fields: "));
    }

    proptest! {
        #[test]
        fn output_round_trips_through_another_reader(
            fields in prop::collection::vec((".{0,40}", any::<Vec<u8>>()), 0..8),
            parsed: bool,
        ) {
            let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            let batch = BatchBuilder::new().log_bytes(9, &fields).log(1, &[("filler", "filler, longer than a block")]).build();
            let json = if parsed { json!({ "json-fields": { "*": ["none", "filler"] } }) } else { json!({}) };
            let event: Value = serde_json::from_str(&events(&json.to_string(), &batch)[0]).unwrap();
            prop_assert_eq!(&event["time"], &json!(9));
            let mut expected = serde_json::Map::new();
            for (key, value) in fields {
                let value = Value::from(String::from_utf8_lossy(value));
                match expected.get_mut(key) {
                    Some(Value::Array(values)) => values.push(value),
                    Some(first) => *first = json!([first, value]),
                    None => drop(expected.insert(key.to_owned(), value)),
                }
            }
            if expected.is_empty() {
                expected.insert("__time__".into(), 9.into());
            }
            prop_assert_eq!(&event["event"], &Value::from(expected));
        }
    }
}
