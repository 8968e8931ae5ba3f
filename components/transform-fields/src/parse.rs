use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use logship_stage::transform::Transformed;
use logship_stage::{Batch, BatchWriter, Error, Origin, Result};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::{self, Config, Format};
use crate::filter::Kept;
use crate::shape::Either;

/// The fields to parse, with their formats.
#[derive(Debug)]
pub(crate) struct Parser(HashMap<String, config::Parse>);

/// Keys and values parsed from a value.
type ParsedFields<'v> = Vec<(Cow<'v, str>, Cow<'v, [u8]>)>;

impl Parser {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let mut fields = HashMap::new();
        for (name, Either(parse)) in &config.parse {
            let path = format!("parse.{name}");
            if !Origin::parse(&path, name)?.is_by_log() {
                return Err(Error::config(path, "only fields can be parsed; name the key of a field"));
            }
            match (parse.r#as, &parse.separator) {
                (Format::Json, Some(_)) => {
                    let reason = "it has no effect unless `as` is key-value; remove it";
                    return Err(Error::config(format!("{path}.separator"), reason));
                }
                (_, Some(separator)) if separator.is_empty() => {
                    let reason = "is empty; remove it to separate by whitespace";
                    return Err(Error::config(format!("{path}.separator"), reason));
                }
                _ => drop(fields.insert(name.clone(), parse.clone())),
            }
        }
        Ok(Self(fields))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the kept logs with their parsed fields.
    pub(crate) fn apply(&self, batch: &Batch, kept: &Kept) -> Transformed {
        let parsers: Vec<_> = batch.raw().keys.iter().map(|key| self.0.get(key)).collect();
        let mut writer = BatchWriter::of(batch);
        let mut key = String::new();
        for log in batch.groups().flat_map(|group| group.logs()).filter(|log| kept.contains(log.index())) {
            let mut copied = log.span().0;
            for field in log.fields() {
                let Some(parse) = parsers[field.key_index()] else { continue };
                let Some(fields) = fields(field.value(), parse) else { continue };
                writer.copy_fields(copied.start..field.index());
                copied.start = field.index() + 1;
                for (name, value) in &fields {
                    key.clear();
                    key.push_str(&parse.prefix);
                    key.push_str(name);
                    let key = writer.key(&key);
                    writer.field(key, value);
                }
            }
            writer.copy_fields(copied);
            writer.end_log(&log);
        }
        writer.finish()
    }
}

/// Parses a value into fields, if it is completely of the format.
fn fields<'v>(value: &'v [u8], parse: &config::Parse) -> Option<ParsedFields<'v>> {
    match parse.r#as {
        Format::Json => json(value),
        Format::KeyValue => pairs(value, parse.separator.as_deref()),
    }
}

/// Parses a JSON object into fields. A null is no value, so it becomes no field.
fn json(value: &[u8]) -> Option<ParsedFields<'_>> {
    // The first byte rules out most values that are not objects.
    if value.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            let mut fields = vec![];
            while let Some(key) = object.next_key_seed(Text)? {
                fields.push((key, object.next_value()?));
            }
            Ok(fields)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(value);
    let fields = json.deserialize_map(Object).ok()?;
    json.end().ok()?;
    let values = fields.into_iter().filter(|(_, value)| value.get() != "null");
    values.map(|(key, value)| Some((key, text(value.get())?))).collect()
}

/// Returns a string unquoted, any other value as its JSON text. Returns `None` for an invalid string, such as a lone
/// surrogate.
fn text(json: &str) -> Option<Cow<'_, [u8]>> {
    if !json.starts_with('"') {
        return Some(Cow::Borrowed(json.as_bytes()));
    }
    let text = Text.deserialize(&mut serde_json::Deserializer::from_str(json)).ok()?;
    Some(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// Deserializes a string; borrows it if it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Parses pairs `KEY=VALUE`, if the value has at least one pair and nothing else.
fn pairs<'v>(value: &'v [u8], separator: Option<&str>) -> Option<ParsedFields<'v>> {
    let mut fields = vec![];
    let mut rest = value.trim_ascii();
    while !rest.is_empty() {
        let sign = rest.iter().position(|&byte| byte == b'=')?;
        let key = std::str::from_utf8(rest[..sign].trim_ascii()).ok()?;
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c == '"') {
            return None;
        }
        let (value, after) = match rest[sign + 1..].strip_prefix(b"\"") {
            Some(quoted) => {
                let (value, after) = quoted_value(quoted)?;
                (value, after_separator(after, separator)?)
            }
            None => unquoted_value(&rest[sign + 1..], separator),
        };
        fields.push((Cow::Borrowed(key), value));
        rest = after.trim_ascii_start();
    }
    (!fields.is_empty()).then_some(fields)
}

/// Splits off an unquoted value up to the next separator. Returns it and the rest after the separator.
fn unquoted_value<'v>(rest: &'v [u8], separator: Option<&str>) -> (Cow<'v, [u8]>, &'v [u8]) {
    let (value, after) = match separator.map(str::as_bytes) {
        None => rest.split_at(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len())),
        Some(separator) => match rest.windows(separator.len()).position(|part| part == separator) {
            Some(end) => (rest[..end].trim_ascii(), &rest[end + separator.len()..]),
            None => (rest.trim_ascii(), &rest[rest.len()..]),
        },
    };
    (Cow::Borrowed(value), after)
}

/// Skips a separator. Returns the rest after it, or `None` if there is other text.
fn after_separator<'v>(rest: &'v [u8], separator: Option<&str>) -> Option<&'v [u8]> {
    match separator {
        None if rest.first().is_none_or(u8::is_ascii_whitespace) => Some(rest),
        None => None,
        Some(separator) => {
            let rest = rest.trim_ascii_start();
            if rest.is_empty() { Some(rest) } else { rest.strip_prefix(separator.trim_start().as_bytes()) }
        }
    }
}

/// Parses a quoted value after its opening quote. Returns it and the rest after the closing quote.
fn quoted_value(rest: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let special =
        |from: usize| rest[from..].iter().position(|byte| b"\"\\".contains(byte)).map(|at| from + at);
    let mut at = special(0)?;
    if rest[at] == b'"' {
        return Some((Cow::Borrowed(&rest[..at]), &rest[at + 1..]));
    }
    let mut value = rest[..at].to_vec();
    while rest[at] == b'\\' {
        match rest.get(at + 1)? {
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            byte @ (b'"' | b'\\') => value.push(*byte),
            // An unknown escape stays as it is.
            byte => value.extend([b'\\', *byte]),
        }
        let next = special(at + 2)?;
        value.extend_from_slice(&rest[at + 2..next]);
        at = next;
    }
    Some((Cow::Owned(value), &rest[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(format: Format, separator: Option<&str>, value: &str) -> Option<String> {
        let parse =
            config::Parse { r#as: format, prefix: String::new(), separator: separator.map(str::to_owned) };
        let fields = fields(value.as_bytes(), &parse)?;
        let field = |(key, value): &(Cow<'_, str>, Cow<'_, [u8]>)| {
            format!("{key}→{}", String::from_utf8_lossy(value))
        };
        Some(fields.iter().map(field).collect::<Vec<_>>().join(" | "))
    }

    #[test]
    fn json_fields_are_strings_or_json_text() {
        let json = |value| parsed(Format::Json, None, value);
        assert_eq!(
            json(r#" {"a":"x\n\"é","n":1.50,"big":123456789012345678901,"o": {"k" : [1, 2]} ,"z":null,"b":true,"a":"","\u0061b":"k"} "#).unwrap(),
            "a→x\n\"é | n→1.50 | big→123456789012345678901 | o→{\"k\" : [1, 2]} | b→true | a→ | ab→k"
        );
        assert_eq!(json("{}").unwrap(), "");
        assert_eq!(json(r#"{"a":null,"b":"null","c": null ,"d":[null]}"#).unwrap(), "b→null | d→[null]");
        for invalid in
            ["", "x", "[1]", "7", "{", r#"{"a":1} {}"#, r#"{"a":1} x"#, r#"{"a"}"#, r#"{"a":"\ud800"}"#]
        {
            assert_eq!(json(invalid), None, "{invalid}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(json(&deep).is_some(), "nested values are text at any depth");
        let parse = config::Parse { r#as: Format::Json, prefix: String::new(), separator: None };
        assert!(fields(b"{\"a\":\"\xff\"}", &parse).is_none());
    }

    #[test]
    fn pairs_are_separated_by_whitespace_or_separator() {
        let by_whitespace = |value| parsed(Format::KeyValue, None, value);
        assert_eq!(
            by_whitespace(r#" level=info msg="a \"b\" \\ \x c\n"  n= url=/?a=b "#).unwrap(),
            "level→info | msg→a \"b\" \\ \\x c\n | n→ | url→/?a=b"
        );
        assert_eq!(by_whitespace(r#"a="" b="x y""#).unwrap(), "a→ | b→x y");
        for invalid in ["", "  ", "a", "a b=c", "=b", "a=b c", r#"a="b"#, r#"a="b"c"#, r#"a="b\"#, r#""a"=b"#]
        {
            assert_eq!(by_whitespace(invalid), None, "{invalid}");
        }
        let by_separator = |separator, value| parsed(Format::KeyValue, Some(separator), value);
        assert_eq!(by_separator("||", "a=1||b=x y|| c = z ||").unwrap(), "a→1 | b→x y | c→z");
        assert_eq!(by_separator("&", "a=1&b=&c=x=y").unwrap(), "a→1 | b→ | c→x=y");
        assert_eq!(by_separator(", ", r#"a="1, 2", b=3"#).unwrap(), "a→1, 2 | b→3");
        assert_eq!(by_separator(",", r#"a="1"b=3"#), None);
        assert_eq!(by_separator(",", "a=1,b"), None);
    }
}
