use std::collections::{BTreeMap, HashSet};
use std::fmt;

use logship_stage::{Batch, Group};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The keys of JSON fields, by topic.
#[derive(Debug)]
pub(crate) struct JsonFields<'a> {
    by_topic: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> JsonFields<'a> {
    pub(crate) fn of(by_topic: &'a BTreeMap<String, Vec<String>>) -> Self {
        Self { by_topic }
    }

    /// Returns, for each key of the batch, true if it is JSON in a group. Returns `None` if no key is.
    pub(crate) fn keys(&self, batch: &Batch, group: &Group<'_>) -> Option<Vec<bool>> {
        let lists = [group.topic(), "*"].into_iter().filter_map(|topic| self.by_topic.get(topic));
        let json_keys: HashSet<&String> = lists.flatten().collect();
        let keys: Vec<bool> = batch.raw().keys.iter().map(|key| json_keys.contains(key)).collect();
        keys.contains(&true).then_some(keys)
    }
}

/// The deepest nesting of embedded JSON. Many readers have a limit of 128, and the event adds levels.
const MAX_DEPTH: u8 = 100;

/// Returns a value as JSON on one line, if it is JSON that any reader accepts.
pub(crate) fn json(value: &[u8]) -> Option<Vec<u8>> {
    let mut json = serde_json::Deserializer::from_slice(value);
    Validator { depth: MAX_DEPTH }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(compact(value))
}

/// Validates JSON and discards it. `IgnoredAny` is too lenient: it accepts lone surrogates, invalid numbers, repeated
/// members and any depth.
#[derive(Debug, Clone, Copy)]
struct Validator {
    depth: u8,
}

impl Validator {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Validator {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Validator {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = self.deeper()?;
        while items.next_element_seed(item)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let item = self.deeper()?;
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(de::Error::custom("a member occurs twice"));
            }
            entries.next_value_seed(item)?;
        }
        Ok(())
    }
}

/// Removes whitespace between the tokens of JSON. Keeps numbers and order.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut out, mut in_string, mut escaped) = (Vec::with_capacity(json.len()), false, false);
    for &byte in json {
        if in_string || !byte.is_ascii_whitespace() {
            out.push(byte);
        }
        match byte {
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && byte == b'\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacts_json_to_one_line_and_rejects_invalid_json() {
        let compacted = |text: &str| json(text.as_bytes()).map(|json| String::from_utf8(json).unwrap());
        let text = "{ \"b\" : [1.10, 12345678901234567890 ],\n\"a\":\"x \\\" \\\\\", \"c\":null}";
        let expected = r#"{"b":[1.10,12345678901234567890],"a":"x \" \\","c":null}"#;
        assert_eq!(compacted(text).unwrap(), expected);
        for invalid in
            ["", "{", "x", "{} {}", "\"\n\"", "[1,]", r#"{"a":1,"a":2}"#, r#"[{"a":{"b":1,"\u0062":2}}]"#]
        {
            assert_eq!(compacted(invalid), None, "{invalid}");
        }
        for depth in [MAX_DEPTH.into(), usize::from(MAX_DEPTH) + 1, 1_000_000] {
            let nested = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(compacted(&nested).is_some(), depth <= MAX_DEPTH.into(), "{depth}");
        }
        for invalid in [r#""\ud800""#, r#"{"\udc00":1}"#, "[1e999]"] {
            assert_eq!(compacted(invalid), None, "{invalid}");
        }
        assert_eq!(json(b"\"\xff\""), None);
    }
}
