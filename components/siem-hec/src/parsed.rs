use std::collections::BTreeMap;
use std::fmt;

use logship_stage::{Batch, Group};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Which fields of a batch are JSON, by topic.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    by_topic: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> Parsed<'a> {
    pub(crate) fn of(by_topic: &'a BTreeMap<String, Vec<String>>) -> Self {
        Self { by_topic }
    }

    /// For each key of the batch whether it is JSON in a group; none if no key is.
    pub(crate) fn keys(&self, batch: &Batch, group: &Group<'_>) -> Option<Vec<bool>> {
        let lists = [group.topic(), "*"].into_iter().filter_map(|topic| self.by_topic.get(topic));
        let wanted: Vec<&String> = lists.flatten().collect();
        let keys: Vec<bool> = batch.raw().keys.iter().map(|key| wanted.contains(&key)).collect();
        keys.contains(&true).then_some(keys)
    }
}

/// How deep JSON may be nested: readers have their limits, many of them 128, and it stands in an event.
const DEPTH: u8 = 100;

/// A value as JSON on one line, if it is JSON that any reader takes.
pub(crate) fn json(value: &[u8]) -> Option<Vec<u8>> {
    let mut json = serde_json::Deserializer::from_slice(value);
    Sound { depth: DEPTH }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(compact(value))
}

/// Reads JSON and keeps nothing of it. (`IgnoredAny` does not do: it takes halves of surrogate pairs, numbers that are
/// none, and any depth.)
#[derive(Debug, Clone, Copy)]
struct Sound {
    depth: u8,
}

impl Sound {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
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

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let item = self.deeper()?;
        while members.next_entry_seed(item, item)?.is_some() {}
        Ok(())
    }
}

/// JSON without the blanks between its tokens. Numbers, order and keys that come twice stay as they are.
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
    fn json_stays_as_it_is_but_on_one_line() {
        let kept = |text: &str| json(text.as_bytes()).map(|json| String::from_utf8(json).unwrap());
        let text = "{ \"b\" : [1.10, 12345678901234567890 ],\n\"a\":\"x \\\" \\\\\", \"b\":null}";
        let expected = r#"{"b":[1.10,12345678901234567890],"a":"x \" \\","b":null}"#;
        assert_eq!(kept(text).unwrap(), expected);
        for broken in ["", "{", "x", "{} {}", "\"\n\"", "[1,]"] {
            assert_eq!(kept(broken), None, "{broken}");
        }
        for depth in [DEPTH.into(), usize::from(DEPTH) + 1, 1_000_000] {
            let nested = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(kept(&nested).is_some(), depth <= DEPTH.into(), "{depth}");
        }
        for no_reader_takes in [r#""\ud800""#, r#"{"\udc00":1}"#, "[1e999]"] {
            assert_eq!(kept(no_reader_takes), None, "{no_reader_takes}");
        }
        assert_eq!(json(b"\"\xff\""), None);
    }
}
