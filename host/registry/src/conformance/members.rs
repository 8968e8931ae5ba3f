//! Checks of names in the output: no field passes for a property of the log, and no JSON object has a member twice.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::conformance::batches;
use crate::conformance::contract;
use crate::conformance::suite::{Problem, Suite};
use logship_batch::batch::LogBatch;

/// The beginning of the values of fields with reserved keys.
const FORGED: &[u8] = b"forged";

/// Runs the checks. `texts` returns the output for a batch as texts: lines or messages.
pub(super) fn check(suite: &mut Suite, texts: impl Fn(&LogBatch) -> Result<Vec<Vec<u8>>, Problem>) {
    suite.check("shows-no-reserved-field", contract::RESERVED, || {
        let texts = texts(&batches::reserved_fields())?;
        for text in &texts {
            if let Some(key) = forged_member(text) {
                let start = text[..text.len().min(300)].escape_ascii();
                return Err(Problem::new(format!("a field called {key} is written as {key}: \"{start}\"")));
            }
        }
        Ok(format!("{} texts of logs with fields called {}", texts.len(), batches::RESERVED_KEYS.join(", ")))
    });
    suite.check("writes-each-member-once", contract::ONCE, || {
        let texts = [texts(&batches::reserved_fields())?, texts(&batches::repeated_keys())?].concat();
        let mut objects = 0;
        for text in &texts {
            let Some(json) = json_object(text) else { continue };
            objects += 1;
            if let Err(problem) = members_once(json) {
                let start = json[..json.len().min(300)].escape_ascii();
                return Err(Problem::new(format!("{problem}: \"{start}\"")));
            }
        }
        Ok(if objects > 0 {
            format!("{objects} JSON objects")
        } else {
            "the output has no JSON objects".into()
        })
    });
}

/// Returns the reserved key that the value of a field follows, if any.
fn forged_member(text: &[u8]) -> Option<&'static str> {
    batches::RESERVED_KEYS.into_iter().find(|key| {
        let mut places = memchr::memmem::find_iter(text, key.as_bytes());
        places.any(|at| {
            // A longer name, such as `__field__:__time__`, is another name.
            let is_longer = text[..at].last().is_some_and(|&byte| is_of_name(byte));
            let after = &text[at + key.len()..];
            let between = after.iter().take(8).position(|byte| byte.is_ascii_alphanumeric());
            !is_longer && between.is_some_and(|between| after[between..].starts_with(FORGED))
        })
    })
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_:.-/".contains(&byte)
}

/// Returns the JSON object that is the text, or that ends it after a header.
fn json_object(text: &[u8]) -> Option<&[u8]> {
    let begin = text.iter().position(|&byte| byte == b'{')?;
    let json = text[begin..].trim_ascii_end();
    serde_json::from_slice::<de::IgnoredAny>(json).is_ok().then_some(json)
}

/// Checks that no object in a JSON text has a member twice.
fn members_once(json: &[u8]) -> Result<(), serde_json::Error> {
    Members.deserialize(&mut serde_json::Deserializer::from_slice(json))
}

#[derive(Debug, Clone, Copy)]
struct Members;

impl<'de> DeserializeSeed<'de> for Members {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members {
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
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            members.next_value_seed(self)?;
            if let Some(key) = keys.replace(key) {
                return Err(de::Error::custom(format!("the member {key:?} occurs twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_forged_members_in_any_text() {
        for (text, expected) in [
            (r#"{"__time__":7,"a":"forged"}"#, None),
            (r#"{"__time__":7,"__time__":"forged-0"}"#, Some("__time__")),
            ("ts=7 __source__=forged", Some("__source__")),
            ("__topic__=t\t__topic__: 'forged'", Some("__topic__")),
            (r#"{"__field__:__time__":"forged","x.__topic__":"forged"}"#, None),
            (r#"{"__tag__:host":"forged"}"#, Some("__tag__:host")),
            (r#"{"__tag__:host":"web-1"}"#, None),
        ] {
            assert_eq!(forged_member(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn finds_repeated_members_at_any_depth() {
        assert!(members_once(br#"{"a":1,"b":{"a":[{"a":null}]},"c":"a"}"#).is_ok());
        for json in [r#"{"a":1,"a":1}"#, r#"{"b":[{"a":1,"\u0061":2}]}"#] {
            let problem = members_once(json.as_bytes()).unwrap_err().to_string();
            assert!(problem.starts_with("the member \"a\" occurs twice"), "{problem}");
        }
        assert_eq!(json_object(b"<14>1 - - - - - - {\"a\":1}\n"), Some(&b"{\"a\":1}"[..]));
        assert_eq!((json_object(b"a={x}"), json_object(b"a=1")), (None, None));
    }
}
