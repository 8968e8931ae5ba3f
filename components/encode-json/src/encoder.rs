use logship_stage::encode::Description;
use logship_stage::escape::{Json, push_escaped};
use logship_stage::{BLOCK, Batch, Encoder, Group, Log, Members, Output, Result, Text, config};

use crate::Config;

/// JSON lines in the making.
#[derive(Debug)]
pub struct JsonEncoder {
    config: Config,
    /// Bytes returned so far.
    size: u64,
    /// Room that a byte of a batch's values took at the last push, in sixteenths.
    growth: usize,
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
        Ok(Self { config: config::parse(text)?, size: 0, growth: 32 })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        let values = batch.raw().values.len();
        let keys: Vec<_> = batch.raw().keys.iter().map(|key| member(key)).collect();
        let mut lines = Lines {
            out: Output::with_capacity(values / 16 * self.growth + 64 * batch.len()),
            members: Members::of(batch, &keys),
            config: &self.config,
        };
        let mut heads = vec![None; batch.raw().groups.len()];
        for group in batch.groups() {
            let head = heads[group.index()].get_or_insert_with(|| head(&self.config, &group));
            group.logs().for_each(|log| lines.push(head, &log));
        }
        let bytes = lines.out.into_bytes();
        self.growth = (bytes.len() / (values / 16).max(1)).clamp(16, 128) + 1;
        self.size += bytes.len() as u64;
        Ok(bytes)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(vec![])
    }
}

/// What stands between two values: `","key":"` ends the string before it, names the next member
/// and begins its string.
fn member(key: &str) -> Text {
    let mut out = Output::default();
    out.push(b"\",\"");
    push_escaped::<Json>(&mut out, key.as_bytes(), 0..key.len());
    out.push(b"\":\"");
    Text::from(out.into_bytes().as_slice())
}

/// The string members that all lines of a group share, up to the inside of the last one's string.
fn head(config: &Config, group: &Group<'_>) -> Text {
    let mut out = Output::default();
    let mut push = |key: &str, value: &str| {
        out.push_text(&member(key));
        push_escaped::<Json>(&mut out, value.as_bytes(), 0..value.len());
    };
    if config.reserved {
        push("__topic__", group.topic());
        push("__source__", group.source());
    }
    if config.tags {
        group.tags().iter().for_each(|tag| push(&format!("__tag__:{}", tag.key), &tag.value));
    }
    Text::from(out.into_bytes().as_slice())
}

/// The lines of a batch.
struct Lines<'a> {
    out: Output,
    members: Members<'a>,
    config: &'a Config,
}

/// How much of a [`member`] is left out when no string stands before it.
const BEHIND_NUMBER: usize = 1;
const AT_BEGINNING: usize = 2;

impl Lines<'_> {
    #[inline(always)]
    fn push(&mut self, head: &Text, log: &Log<'_>) {
        let mut skip = AT_BEGINNING;
        if self.config.reserved {
            self.out.push_range(&OPENING, 0..12);
            self.push_number(log.time());
            skip = BEHIND_NUMBER;
        } else {
            self.out.push_range(&OPENING, 0..1);
        }
        if let Some(nanos) = log.nanos().filter(|_| self.config.nanos) {
            self.out.push(if skip == BEHIND_NUMBER { b"," } else { b"" });
            self.out.push(b"\"__time_ns_part__\":");
            self.push_number(nanos);
            skip = BEHIND_NUMBER;
        }
        if !head.is_empty() {
            self.out.push_text_from(head, skip);
            skip = 0;
        }
        let (fields, begin) = log.span();
        let in_string = skip == 0 || !fields.is_empty();
        self.members.push::<Json>(&mut self.out, fields, begin, skip);
        self.out.push_range(&CLOSING, if in_string { 0..3 } else { 1..3 });
    }

    #[inline(always)]
    fn push_number(&mut self, number: u32) {
        self.out.push_value(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// Short texts with a block behind them, so that they are one store.
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
    fn reserved_members_come_first_and_fields_keep_their_order() {
        let batch = BatchBuilder::new()
            .group("nginx", "10.0.0.1", &[("host", "web-1")])
            .log(1_484_913_043, &[("z", "1"), ("a", ""), ("z", "2")])
            .log(0, &[])
            .build();
        let plain = concat!(
            r#"{"__time__":1484913043,"__topic__":"nginx","__source__":"10.0.0.1","z":"1","a":"","z":"2"}"#,
            "\n",
            r#"{"__time__":0,"__topic__":"nginx","__source__":"10.0.0.1"}"#,
            "\n"
        );
        assert_eq!(encode("", &batch), plain);
        let tags = r#""__source__":"10.0.0.1","__tag__:host":"web-1""#;
        assert_eq!(encode(r#"{"tags":true}"#, &batch), plain.replace(r#""__source__":"10.0.0.1""#, tags));
        assert_eq!(encode(r#"{"reserved":false}"#, &batch), "{\"z\":\"1\",\"a\":\"\",\"z\":\"2\"}\n{}\n");
        let only_tags =
            "{\"__tag__:host\":\"web-1\",\"z\":\"1\",\"a\":\"\",\"z\":\"2\"}\n{\"__tag__:host\":\"web-1\"}\n";
        assert_eq!(encode(r#"{"reserved":false,"tags":true}"#, &batch), only_tags);
    }

    #[test]
    fn nanoseconds_come_on_request_with_logs_that_have_them() {
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
    fn invalid_utf8_becomes_the_replacement_character() {
        let batch = BatchBuilder::new().log_bytes(1, &[("a", b"x\xff\"y"), ("b", "né".as_bytes())]).build();
        let expected = "{\"a\":\"x\u{fffd}\\\"y\",\"b\":\"né\"}\n";
        assert_eq!(encode(r#"{"reserved":false}"#, &batch), expected);
    }

    #[test]
    fn an_unknown_member_of_the_configuration_is_named() {
        let error = JsonEncoder::open(r#"{"tag": true}"#).unwrap_err().to_string();
        assert!(error.contains("tag") && error.contains("unknown field"), "{error}");
    }

    fn reads_back(values: &[String]) {
        let fields: Vec<_> =
            values.iter().map(|value| ("a key of more than a block", value.as_str())).collect();
        // Behind the last value there must be a block for the loop to take it.
        let batch =
            BatchBuilder::new().log(1, &fields).log(2, &[("k", "\"\\\"\\ filler, and more of it")]).build();
        let bytes = JsonEncoder::open("").unwrap().push(&batch).unwrap();
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap();
        let line = std::str::from_utf8(line).unwrap();
        let read = line.split("\"a key of more than a block\":").skip(1);
        let read: Vec<String> =
            read.map(|text| serde_json::from_str(text.trim_end_matches([',', '}'])).unwrap()).collect();
        assert_eq!(read, values);
    }

    #[test]
    fn every_byte_at_every_place_reads_back() {
        for byte in 0..0x80u8 {
            for place in 0..40 {
                let mut text = "x".repeat(40);
                text.replace_range(place..=place, char::from(byte).encode_utf8(&mut [0; 4]));
                reads_back(&[text, String::new(), "y".into()]);
            }
        }
    }

    #[test]
    fn values_shorter_than_a_block_are_not_read_past() {
        for value in ["", "x", "fifteen bytes.."] {
            let batch = BatchBuilder::new().log(1, &[("a", ""), ("b", value)]).build();
            let bytes = JsonEncoder::open(r#"{"tags":true}"#).unwrap().push(&batch).unwrap();
            assert!(bytes.ends_with(format!("\"a\":\"\",\"b\":\"{value}\"}}\n").as_bytes()));
        }
    }

    #[test]
    fn values_that_outgrow_the_room_read_back() {
        for count in [1, 15, 16, 17, 100, 1000] {
            reads_back(&vec!["\u{1}\u{1f}\"\u{e9}".repeat(count); 20]);
        }
    }

    proptest! {
        #[test]
        fn another_reader_reads_what_was_written(
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
                expected.extend(fields.iter().map(|(key, value)| (key.clone(), text(value))));
                prop_assert_eq!(read.0, expected);
            }
        }
    }

    /// A JSON object as it stands: order and duplicate keys kept.
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
