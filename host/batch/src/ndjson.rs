//! Parses NDJSON: one log as a JSON object per line.
//!
//! The reserved keys `__time__`, `__time_ns_part__`, `__topic__`, `__source__` and `__tag__:KEY` set the corresponding
//! properties of the log or its group. Every other key becomes a field: a string as it is, any other value as its JSON
//! text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sonic_rs::{JsonValueTrait, LazyValue};
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::{BatchBuilder, LogBatch, LogGroup, Tag};
use crate::time::{self, Time};

/// The settings of a parser.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The field with the log's time, as RFC 3339 or Unix time. It stays a field as well. The default is `__time__`.
    pub time_field: Option<String>,
    /// The time of a log without `__time__`. Not used if `time_field` is set.
    pub default_time: Time,
    /// The number of shards.
    pub shards: u32,
    /// The field whose hash selects the shard. A log without the field uses the hash of the empty string.
    pub shard_field: String,
}

/// A rejected line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The index of the line in the block.
    pub line: usize,
    /// The bytes of the line, without the line break.
    pub text: Vec<u8>,
    /// The reason for the rejection.
    pub reason: String,
}

/// The result of parsing a block.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The batch of each shard that has logs, by shard number. Logs keep the order of the lines.
    pub batches: Vec<(u32, LogBatch)>,
    /// The rejected lines.
    pub rejects: Vec<Reject>,
    /// The number of lines in the block, including blank lines.
    pub lines: usize,
}

/// Parses blocks of lines into batches, one for each shard.
#[derive(Debug)]
pub struct Parser {
    settings: Settings,
    builder: BatchBuilder,
    group: GroupBuilder,
    /// The shard of each log in the builder.
    shard_of: Vec<u32>,
}

impl Parser {
    /// Creates a parser. Reuse it for all blocks.
    pub fn new(settings: Settings) -> Self {
        Self { settings, builder: BatchBuilder::default(), group: GroupBuilder::default(), shard_of: vec![] }
    }

    /// Sets the time of logs without a time.
    pub fn set_default_time(&mut self, time: Time) {
        self.settings.default_time = time;
    }

    /// Parses a block of complete lines. The last line may lack its line break. Blank lines are skipped.
    pub fn parse(&mut self, block: &[u8]) -> Parsed {
        let mut parsed = Parsed::default();
        // Usually the whole block is UTF-8, so its lines need no check of their own.
        let valid = simdutf8::basic::from_utf8(block).ok();
        let mut begin = 0;
        while begin < block.len() {
            let end = memchr::memchr(b'\n', &block[begin..]).map_or(block.len(), |at| begin + at);
            let text = valid.map_or_else(|| utf8(&block[begin..end]), |valid| Ok(&valid[begin..end]));
            if let Err(reason) = text.and_then(|line| self.line(line.trim_ascii())) {
                self.builder.drop_log();
                parsed.rejects.push(Reject { line: parsed.lines, text: block[begin..end].to_vec(), reason });
            }
            begin = end + 1;
            parsed.lines += 1;
        }
        if !self.builder.is_empty() {
            parsed.batches = self.builder.take().split(&self.shard_of);
            self.shard_of.clear();
        }
        parsed
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        let mut time = None;
        let mut nanos = None;
        let mut shard = if self.settings.shards > 1 { shard_for("", self.settings.shards) } else { 0 };
        let Settings { time_field, shard_field, shards, .. } = &self.settings;
        let builder = &mut self.builder;
        self.group.clear();
        read_object(line, |key, value| {
            if *shards > 1 && key == *shard_field {
                shard = shard_for(value, *shards);
            }
            let reserved = Reserved::of(key);
            let is_time = match (time_field, &reserved) {
                (None, Some(Reserved::Time)) => true,
                (Some(field), _) => key == *field,
                _ => false,
            };
            if is_time {
                time = Some(read_time(key, value)?);
            }
            match reserved {
                None => builder.field(key, value.as_bytes()),
                Some(Reserved::Time) => {}
                Some(Reserved::NanosPart) => nanos = Some(read_nanos(key, value)?),
                Some(Reserved::Topic) => self.group.topic(value),
                Some(Reserved::Source) => self.group.source(value),
                Some(Reserved::Tag(key)) => self.group.tag(key, value),
            }
            Ok(())
        })?;
        let time = match (time, time_field) {
            (Some(time), _) => time,
            (None, None) => self.settings.default_time,
            (None, Some(field)) => return Err(format!("field {field:?} with the time is missing")),
        };
        let group = builder.group(self.group.finish());
        builder.end_log(group, time.0, nanos.unwrap_or(time.1));
        self.shard_of.push(shard);
        Ok(())
    }
}

fn utf8(line: &[u8]) -> Result<&str, String> {
    str::from_utf8(line).map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))
}

fn read_time(key: &str, text: &str) -> Result<Time, String> {
    time::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("{key:?} is not a time: {shown:?}; use RFC 3339 or Unix time from 1970 to 2106")
    })
}

fn read_nanos(key: &str, text: &str) -> Result<u32, String> {
    let nanos = text.parse().ok().filter(|nanos| *nanos < 1_000_000_000);
    nanos.ok_or_else(|| format!("{key:?} is not a number of nanoseconds below 1,000,000,000"))
}

/// Returns the shard of a value. The high bits of the hash select it, as with the hash ranges of a Logstore.
fn shard_for(value: &str, shards: u32) -> u32 {
    ((u128::from(xxh3_64(value.as_bytes())) * u128::from(shards)) >> 64) as u32
}

/// Builds the group of each line in reused memory.
#[derive(Debug)]
struct GroupBuilder {
    group: LogGroup,
    /// The number of tags of the current line.
    tags: usize,
}

impl Default for GroupBuilder {
    fn default() -> Self {
        Self { group: LogGroup { topic: String::new(), source: String::new(), tags: vec![] }, tags: 0 }
    }
}

impl GroupBuilder {
    fn clear(&mut self) {
        self.group.topic.clear();
        self.group.source.clear();
        self.tags = 0;
    }

    fn topic(&mut self, value: &str) {
        set(&mut self.group.topic, value);
    }

    fn source(&mut self, value: &str) {
        set(&mut self.group.source, value);
    }

    fn tag(&mut self, key: &str, value: &str) {
        match self.group.tags.get_mut(self.tags) {
            Some(tag) => {
                set(&mut tag.key, key);
                set(&mut tag.value, value);
            }
            None => self.group.tags.push(Tag { key: key.to_owned(), value: value.to_owned() }),
        }
        self.tags += 1;
    }

    fn finish(&mut self) -> &LogGroup {
        self.group.tags.truncate(self.tags);
        &self.group
    }
}

fn set(target: &mut String, text: &str) {
    target.clear();
    target.push_str(text);
}

/// The reserved keys.
enum Reserved<'a> {
    Time,
    NanosPart,
    Topic,
    Source,
    Tag(&'a str),
}

impl<'a> Reserved<'a> {
    #[inline]
    fn of(key: &'a str) -> Option<Self> {
        match key.strip_prefix("__")? {
            "time__" => Some(Self::Time),
            "time_ns_part__" => Some(Self::NanosPart),
            "topic__" => Some(Self::Topic),
            "source__" => Some(Self::Source),
            name => name.strip_prefix("tag__:").map(Self::Tag),
        }
    }
}

/// Calls `on_field` with each key and value of the JSON object in `line`. A string value is passed unescaped, any other
/// value as its JSON text. Text after the object is an error.
#[inline(always)]
fn read_object(line: &str, on_field: impl FnMut(&str, &str) -> Result<(), String>) -> Result<(), String> {
    if is_too_deep(line) {
        return Err(format!("values are nested deeper than {MAX_DEPTH}"));
    }
    let mut json = sonic_rs::Deserializer::from_str(line);
    let fields = Fields { on_field, rejection: None };
    let rejection = json.deserialize_map(fields).map_err(|error| reason(line, &error))?;
    if let Some(rejection) = rejection {
        return Err(rejection);
    }
    json.end().map_err(|error| reason(line, &error))
}

/// The maximum nesting depth of values. The JSON reader recurses, so unlimited depth would overflow the stack.
pub const MAX_DEPTH: usize = 128;

/// Returns true if values are nested deeper than [`MAX_DEPTH`].
pub fn is_too_deep(json: &str) -> bool {
    // Usually the text has too few brackets, so nothing else needs a check.
    if memchr::memchr2_iter(b'[', b'{', json.as_bytes()).nth(MAX_DEPTH).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Visits the fields of an object. After `on_field` rejects a field, it is not called again.
struct Fields<F> {
    on_field: F,
    rejection: Option<String>,
}

impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for Fields<F> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            let value: LazyValue<'de> = entries.next_value()?;
            let text = match value.as_str() {
                Some(text) => text,
                None if value.is_str() => return Err(A::Error::custom("a string has an unpaired surrogate")),
                None => value.as_raw_str(),
            };
            if self.rejection.is_none() {
                self.rejection = (self.on_field)(&key.0, text).err();
            }
        }
        Ok(self.rejection)
    }
}

/// A key: borrowed, or owned if it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        json.deserialize_str(KeyVisitor)
    }
}

fn reason(line: &str, error: &sonic_rs::Error) -> String {
    if !line.starts_with('{') {
        return format!("not a JSON object: it begins with {:?}", shorten(line));
    }
    // Drop the line number and the excerpt from the message: there is only one line.
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or_default().trim_end_matches(" while parsing");
    format!(
        "not JSON at byte {}: {}",
        error.offset() + 1,
        cause.replace("Expected this character to be", "expected")
    )
}

fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { time_field: None, default_time: (7, 0), shards: 1, shard_field: "__source__".into() }
    }

    fn parse(settings: Settings, text: &[u8]) -> Parsed {
        Parser::new(settings).parse(text)
    }

    fn fields(batch: &LogBatch, log: usize) -> Vec<(String, String)> {
        let one = batch.slice(log..log + 1);
        let mut start = 0;
        let field = |(&key, &end): (&u32, &u32)| {
            let value = String::from_utf8(one.values[start..end as usize].to_vec()).unwrap();
            start = end as usize;
            (one.keys[key as usize].clone(), value)
        };
        one.field_keys.iter().zip(&one.value_ends).map(field).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn reserved_keys_are_extracted_and_others_kept_as_text() {
        let line = br#" {"a":"x\n\"\u00e9","__time__":9,"n":1.50,"__topic__":"t","big":123456789012345678901,"o": {"k" : [1, 2]} ,"z":null,"b":true,"__source__":"s","__tag__:h":"v","a":"","\u0061b":"k"} "#;
        let parsed = parse(settings(), line);
        assert_eq!(parsed.rejects, []);
        let batch = &parsed.batches[0].1;
        assert_eq!((batch.times[0], batch.nanos.len()), (9, 0));
        let tags = vec![Tag { key: "h".into(), value: "v".into() }];
        assert_eq!(batch.groups, [LogGroup { topic: "t".into(), source: "s".into(), tags }]);
        let expected = [
            ("a", "x\n\"é"),
            ("n", "1.50"),
            ("big", "123456789012345678901"),
            ("o", r#"{"k" : [1, 2]}"#),
            ("z", "null"),
            ("b", "true"),
            ("a", ""),
            ("ab", "k"),
        ];
        assert_eq!(fields(batch, 0), pairs(&expected));
    }

    #[test]
    fn rejects_bad_lines_and_keeps_the_others() {
        let cases: [(&[u8], &str); 15] = [
            (b"[1]", "not a JSON object"),
            (b"plain text", "not a JSON object"),
            (b"{\"a\":1", "not JSON at byte"),
            (b"{\"a\":1}}", "trailing characters"),
            (b"{\"a\":1} {\"b\":2}", "trailing characters"),
            (b"{}x", "trailing characters"),
            (b"{\"a\":}", ""),
            (b"{\"a\":01}", ""),
            (b"{\"a\":\"\\x\"}", ""),
            (b"{\"a\":\"\x01\"}", ""),
            (b"{\"a\":{\"b\":tru}}", ""),
            (b"{\"a\":\"\xff\"}", "byte 7 is not UTF-8"),
            (b"{\"__time__\":\"noon\"}", "is not a time"),
            (b"{\"a\":\"\\ud800\"}", ""),
            (b"{\"__time_ns_part__\":1e9}", "number of nanoseconds"),
        ];
        for (line, expected) in cases {
            let text = [b"{\"a\":\"1\"}\n\n", line, b"\r\n{\"a\":\"2\"}"].concat();
            let parsed = parse(settings(), &text);
            let shown = String::from_utf8_lossy(line);
            assert_eq!(parsed.rejects.len(), 1, "{shown}");
            let reject = &parsed.rejects[0];
            assert!(
                reject.reason.contains(expected) && !reject.reason.is_empty(),
                "{shown}: {}",
                reject.reason
            );
            assert_eq!((reject.line, &reject.text), (2, &[line, b"\r"].concat()), "{shown}");
            assert_eq!((parsed.lines, parsed.batches[0].1.len()), (4, 2), "{shown}");
            assert_eq!(fields(&parsed.batches[0].1, 1), pairs(&[("a", "2")]), "{shown}");
        }
    }

    #[test]
    fn rejects_deep_nesting_but_ignores_brackets_in_strings() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
        let flat =
            format!("{{\"a\":\"{}\",\"b\":{}1{}}}", "[{".repeat(500), "[".repeat(127), "]".repeat(127));
        let parsed = parse(settings(), format!("{deep}\n{flat}\n").as_bytes());
        assert_eq!(parsed.rejects.len(), 1);
        assert_eq!(parsed.rejects[0].reason, "values are nested deeper than 128");
        assert_eq!(parsed.batches[0].1.len(), 1);
    }

    #[test]
    fn empty_object_is_a_log_without_fields() {
        let parsed = parse(settings(), b"{}\n{ }\n");
        assert_eq!(parsed.rejects, []);
        assert_eq!(parsed.batches[0].1.times, [7, 7]);
    }

    #[test]
    fn reads_time_from_configured_field() {
        let named = Settings { time_field: Some("ts".into()), ..settings() };
        let parsed = parse(named, b"{\"ts\":\"2017-01-20T19:50:43.5+08:00\",\"__time__\":1}\n{\"x\":1}\n");
        let batch = &parsed.batches[0].1;
        assert_eq!((batch.times[0], batch.nanos[0]), (1_484_913_043, 500_000_000));
        assert_eq!(fields(batch, 0), pairs(&[("ts", "2017-01-20T19:50:43.5+08:00")]));
        assert_eq!(parsed.rejects[0].reason, "field \"ts\" with the time is missing");
    }

    #[test]
    fn same_value_selects_same_shard() {
        let sharded = Settings { shards: 4, shard_field: "user".into(), ..settings() };
        let text: String = (0..200).map(|i| format!("{{\"user\":\"u{}\",\"n\":{i}}}\n", i % 20)).collect();
        let parsed = parse(sharded, text.as_bytes());
        assert_eq!(parsed.batches.len(), 4);
        let mut seen = std::collections::HashMap::new();
        for (shard, batch) in &parsed.batches {
            let mut last = None;
            for log in 0..batch.len() {
                let log = fields(batch, log);
                assert_eq!(*seen.entry(log[0].1.clone()).or_insert(*shard), *shard);
                let number: u32 = log[1].1.parse().unwrap();
                assert!(last.replace(number) < Some(number), "order within a shard");
            }
        }
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn accepts_same_damaged_lines_as_serde_json() {
        let valid_line = r#"{"a":"x\n\u00e9 \"q\"","n":-1.50e3,"t":true,"o":{"k":[1,{"z":null}]},"e":"","é":"\ud83d\ude00"}"#;
        let noise = b"{}[]\",:\\0e.-tn \x01\xc3\xff";
        let mut random = fastrand::Rng::with_seed(7);
        let (mut logs, mut rejects) = (0, 0);
        for _ in 0..30_000 {
            let mut line = valid_line.as_bytes().to_vec();
            for _ in 0..random.usize(0..3) {
                let at = random.usize(0..line.len());
                match random.u8(0..3) {
                    0 => line[at] = noise[random.usize(0..noise.len())],
                    1 => drop(line.remove(at)),
                    _ => line.insert(at, noise[random.usize(0..noise.len())]),
                }
            }
            let parsed = parse(settings(), &line);
            let shown = String::from_utf8_lossy(&line).into_owned();
            let json = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&line);
            match (parsed.batches.first(), json) {
                (Some((_, batch)), Ok(json)) => {
                    logs += 1;
                    for (key, value) in fields(batch, 0) {
                        if let Some(serde_json::Value::String(text)) = json.get(&key) {
                            let last =
                                fields(batch, 0).into_iter().rfind(|(other, _)| *other == key).unwrap();
                            assert_eq!(last.1, *text, "{shown}");
                        }
                        assert!(json.contains_key(&key) && value.len() < line.len(), "{shown}");
                    }
                }
                (None, Err(_)) => {
                    rejects += 1;
                    assert_eq!(parsed.rejects.len(), 1, "{shown}");
                    assert_eq!(parsed.rejects[0].text, line, "{shown}");
                }
                (ours, theirs) => panic!("{shown}: a log: {}, JSON: {theirs:?}", ours.is_some()),
            }
        }
        assert!(logs > 1000 && rejects > 1000, "{logs} logs, {rejects} rejects");
    }
}
