use std::collections::BTreeMap;

use logship_stage::{Batch, Group};
use serde::de::IgnoredAny;

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

/// A value as JSON on one line, if it is JSON.
pub(crate) fn json(value: &[u8]) -> Option<Vec<u8>> {
    // It checks the whole, nesting of 128 at most, and UTF-8.
    std::str::from_utf8(value).ok()?;
    serde_json::from_slice::<IgnoredAny>(value).ok()?;
    Some(compact(value))
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
        assert_eq!(kept(&"[".repeat(1_000_000)), None, "too deep");
        assert_eq!(json(b"\"\xff\""), None);
    }
}
