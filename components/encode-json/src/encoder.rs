use logship_stage::encode::Description;
use logship_stage::escape::{Json, push_escaped};
use logship_stage::{
    BLOCK, Batch, Encoder, Fields, Group, Log, Loss, Losses, Output, Repeats, Result, Text, config,
};

use crate::Config;

/// An open object of JSON lines.
#[derive(Debug)]
pub struct JsonEncoder {
    config: Config,
    /// The number of bytes returned so far.
    size: u64,
    /// The output bytes per byte of values in the last push, in sixteenths.
    expansion: usize,
    losses: Losses,
}

impl Encoder for JsonEncoder {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "json".into(),
            suffix: String::new(),
            media_type: "application/x-ndjson".into(),
            config_schema: config::schema::<Config>(),
            compressions: vec![],
        }
    }

    fn open(text: &str) -> Result<Self> {
        Ok(Self { config: config::parse(text)?, size: 0, expansion: 32, losses: Losses::default() })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        if self.config.tags {
            self.losses.add_repeated_tags(batch, |_| true);
        }
        match Repeats::of(batch) {
            None => Ok(self.lines(batch)),
            Some(repeats) => {
                self.losses.add_repeats(batch, &repeats, |_| true);
                Ok(self.lines(&repeats.removed_from(batch)))
            }
        }
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.losses.take()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(vec![])
    }
}

impl JsonEncoder {
    /// Returns the lines of logs that repeat no key.
    fn lines(&mut self, batch: &Batch) -> Vec<u8> {
        let values = batch.raw().values.len();
        let keys: Vec<_> = batch.raw().keys.iter().map(|key| key_text(key)).collect();
        let mut lines = Lines {
            out: Output::with_capacity(values / 16 * self.expansion + 64 * batch.len()),
            fields: Fields::of(batch, &keys),
            config: &self.config,
        };
        let mut shared_by_group = vec![None; batch.raw().groups.len()];
        for group in batch.groups() {
            let shared_fields =
                shared_by_group[group.index()].get_or_insert_with(|| shared_fields(&self.config, &group));
            group.logs().for_each(|log| lines.push(shared_fields, &log));
        }
        let bytes = lines.out.into_bytes();
        self.expansion = (bytes.len() / (values / 16).max(1)).clamp(16, 128) + 1;
        self.size += bytes.len() as u64;
        bytes
    }
}

/// Returns the text between two values, `","key":"`. It ends the previous string, names the next field and begins its
/// string.
fn key_text(key: &str) -> Text {
    let mut out = Output::default();
    out.push(b"\",\"");
    push_escaped::<Json>(&mut out, key.as_bytes(), 0..key.len());
    out.push(b"\":\"");
    Text::from(out.into_bytes().as_slice())
}

/// Returns the string fields that all lines of a group share, without the last closing quote.
fn shared_fields(config: &Config, group: &Group<'_>) -> Text {
    let mut out = Output::default();
    let mut push = |key: &str, value: &str| {
        out.push_text(&key_text(key));
        push_escaped::<Json>(&mut out, value.as_bytes(), 0..value.len());
    };
    if config.reserved {
        push("__topic__", group.topic());
        push("__source__", group.source());
    }
    if config.tags {
        group.distinct_tags().iter().for_each(|tag| push(&format!("__tag__:{}", tag.key), &tag.value));
    }
    Text::from(out.into_bytes().as_slice())
}

/// Writes the lines of a batch.
struct Lines<'a> {
    out: Output,
    fields: Fields<'a>,
    config: &'a Config,
}

/// The number of bytes of a [`key_text`] to omit after a number, and at the beginning of a line.
const AFTER_NUMBER: usize = 1;
const AT_BEGINNING: usize = 2;

impl Lines<'_> {
    #[inline(always)]
    fn push(&mut self, shared_fields: &Text, log: &Log<'_>) {
        let mut skip = AT_BEGINNING;
        if self.config.reserved {
            self.out.push_range(&OPENING, 0..12);
            self.push_number(log.time());
            skip = AFTER_NUMBER;
        } else {
            self.out.push_range(&OPENING, 0..1);
        }
        if let Some(nanos) = log.nanos().filter(|_| self.config.nanos) {
            self.out.push(if skip == AFTER_NUMBER { b"," } else { b"" });
            self.out.push(b"\"__time_ns_part__\":");
            self.push_number(nanos);
            skip = AFTER_NUMBER;
        }
        if !shared_fields.is_empty() {
            self.out.push_text_from(shared_fields, skip);
            skip = 0;
        }
        let (fields, begin) = log.span();
        let in_string = skip == 0 || !fields.is_empty();
        self.fields.push::<Json>(&mut self.out, fields, begin, skip);
        self.out.push_range(&CLOSING, if in_string { 0..3 } else { 1..3 });
    }

    #[inline(always)]
    fn push_number(&mut self, number: u32) {
        self.out.push_value(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// Short texts followed by a padding block, so that each is copied by one store.
const OPENING: [u8; 12 + BLOCK] = *b"{\"__time__\":\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const CLOSING: [u8; 3 + BLOCK] = *b"\"}\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;
    use proptest::prelude::*;

    use super::*;

    fn encode(config: &str, batch: &Batch) -> String {
        let mut encoder = JsonEncoder::open(config).unwrap();
        let bytes = encoder.push(batch).unwrap();
        assert_eq!(encoder.size(), bytes.len() as u64);
        assert_eq!(encoder.finish().unwrap(), b"");
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn reserved_fields_come_first_and_fields_keep_their_order() {
        let batch = BatchBuilder::new()
            .group("nginx", "10.0.0.1", &[("host", "web-1")])
            .log(1_484_913_043, &[("z", "1"), ("a", "")])
            .log(0, &[])
            .build();
        let plain = concat!(
            r#"{"__time__":1484913043,"__topic__":"nginx","__source__":"10.0.0.1","z":"1","a":""}"#,
            "\n",
            r#"{"__time__":0,"__topic__":"nginx","__source__":"10.0.0.1"}"#,
            "\n"
        );
        assert_eq!(encode("", &batch), plain);
        let tags = r#""__source__":"10.0.0.1","__tag__:host":"web-1""#;
        assert_eq!(encode(r#"{"tags":true}"#, &batch), plain.replace(r#""__source__":"10.0.0.1""#, tags));
        assert_eq!(encode(r#"{"reserved":false}"#, &batch), "{\"z\":\"1\",\"a\":\"\"}\n{}\n");
        let only_tags = "{\"__tag__:host\":\"web-1\",\"z\":\"1\",\"a\":\"\"}\n{\"__tag__:host\":\"web-1\"}\n";
        assert_eq!(encode(r#"{"reserved":false,"tags":true}"#, &batch), only_tags);
    }

    #[test]
    fn no_member_occurs_twice_or_is_forged() {
        let batch = BatchBuilder::new()
            .group("t", "10.0.0.1", &[("host", "web-1"), ("host", "web-2")])
            .log(
                7,
                &[
                    ("z", "1"),
                    ("__time__", "1"),
                    ("z", "2"),
                    ("__source__", "forged"),
                    ("__tag__:host", "forged"),
                ],
            )
            .nanos(5)
            .build();
        let own = r#"{"__time__":7,"__time_ns_part__":5,"__topic__":"t","__source__":"10.0.0.1","__tag__:host":"web-2","#;
        let fields = r#""__field__:__time__":"1","z":"2","__field__:__source__":"forged","__field__:__tag__:host":"forged"}"#;
        assert_eq!(encode(r#"{"tags":true,"nanos":true}"#, &batch), format!("{own}{fields}\n"));
        assert_eq!(encode(r#"{"reserved":false}"#, &batch), format!("{{{fields}\n"));
        let mut encoder = JsonEncoder::open(r#"{"tags":true}"#).unwrap();
        encoder.push(&batch).unwrap();
        let lost: Vec<_> =
            encoder.take_losses().into_iter().map(|loss| (loss.column, loss.count, loss.example)).collect();
        let loss = |column: &str, example: &str| (column.to_owned(), 1, example.to_owned());
        assert_eq!(lost, [loss("__tag__:host", "web-1"), loss("z", "1")]);
    }

    #[test]
    fn writes_nanoseconds_if_enabled() {
        let batch = BatchBuilder::new().log(1, &[("a", "b")]).nanos(5).build();
        let with =
            "{\"__time__\":1,\"__time_ns_part__\":5,\"__topic__\":\"\",\"__source__\":\"\",\"a\":\"b\"}\n";
        assert_eq!(encode(r#"{"nanos":true}"#, &batch), with);
        let alone = "{\"__time_ns_part__\":5,\"a\":\"b\"}\n";
        assert_eq!(encode(r#"{"nanos":true,"reserved":false}"#, &batch), alone);
        assert!(!encode("", &batch).contains("ns_part"));
        let without = BatchBuilder::new().log(1, &[]).build();
        assert!(!encode(r#"{"nanos":true}"#, &without).contains("ns_part"));
    }

    #[test]
    fn replaces_invalid_utf8() {
        let batch = BatchBuilder::new().log_bytes(1, &[("a", b"x\xff\"y"), ("b", "né".as_bytes())]).build();
        let expected = "{\"a\":\"x\u{fffd}\\\"y\",\"b\":\"né\"}\n";
        assert_eq!(encode(r#"{"reserved":false}"#, &batch), expected);
    }

    #[test]
    fn rejects_unknown_setting_by_name() {
        let error = JsonEncoder::open(r#"{"tag": true}"#).unwrap_err().to_string();
        assert!(error.contains("tag") && error.contains("unknown field"), "{error}");
    }

    fn assert_round_trips(values: &[String]) {
        let keys: Vec<_> =
            (0..values.len()).map(|index| format!("a key of more than a block {index:03}")).collect();
        let fields: Vec<_> = keys.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        // The fast loop needs a block after the last value.
        let batch =
            BatchBuilder::new().log(1, &fields).log(2, &[("k", "\"\\\"\\ filler, and more of it")]).build();
        let bytes = JsonEncoder::open("").unwrap().push(&batch).unwrap();
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap();
        let line = std::str::from_utf8(line).unwrap();
        let mut read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let read: Vec<_> = keys.iter().map(|key| read.remove(key).unwrap()).collect();
        assert_eq!(read, values);
    }

    #[test]
    fn bytes_round_trip_at_every_position() {
        for byte in 0..0x80u8 {
            for position in 0..40 {
                let mut text = "x".repeat(40);
                text.replace_range(position..=position, char::from(byte).encode_utf8(&mut [0; 4]));
                assert_round_trips(&[text, String::new(), "y".into()]);
            }
        }
    }

    #[test]
    fn does_not_read_past_short_values() {
        for value in ["", "x", "fifteen bytes.."] {
            let batch = BatchBuilder::new().log(1, &[("a", ""), ("b", value)]).build();
            let bytes = JsonEncoder::open(r#"{"tags":true}"#).unwrap().push(&batch).unwrap();
            assert!(bytes.ends_with(format!("\"a\":\"\",\"b\":\"{value}\"}}\n").as_bytes()));
        }
    }

    #[test]
    fn values_larger_than_the_capacity_round_trip() {
        for count in [1, 15, 16, 17, 100, 1000] {
            assert_round_trips(&vec!["\u{1}\u{1f}\"\u{e9}".repeat(count); 20]);
        }
    }

    proptest! {
        #[test]
        fn output_round_trips_through_another_reader(
            topic: String,
            logs in prop::collection::vec((any::<u32>(), prop::collection::vec((".{0,40}", any::<Vec<u8>>()), 0..8)), 0..8),
        ) {
            let mut builder = BatchBuilder::new().group(&topic, "s", &[]);
            for (time, fields) in &logs {
                let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
                builder = builder.log_bytes(*time, &fields);
            }
            let text = encode("", &builder.build());
            prop_assert_eq!(text.lines().count(), logs.len());
            for (line, (time, fields)) in text.lines().zip(&logs) {
                let read: Members = serde_json::from_str(line).unwrap();
                let mut expected = vec![
                    ("__time__".to_owned(), serde_json::json!(time)),
                    ("__topic__".to_owned(), serde_json::json!(topic)),
                    ("__source__".to_owned(), serde_json::json!("s")),
                ];
                let text = |value: &[u8]| serde_json::json!(String::from_utf8_lossy(value));
                let distinct = fields.iter().enumerate().filter(|(at, (key, _))| {
                    fields[at + 1..].iter().all(|(later, _)| later != key)
                });
                expected.extend(distinct.map(|(_, (key, value))| (key.clone(), text(value))));
                prop_assert_eq!(read.0, expected);
            }
        }
    }

    /// A JSON object with its order and its duplicate keys.
    struct Members(Vec<(String, serde_json::Value)>);

    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> std::result::Result<Members, A::Error> {
                    let mut members = vec![];
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            json.deserialize_map(Visitor)
        }
    }
}
