//! Reads JSON objects.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sonic_rs::{JsonValueTrait, LazyValue};

/// Calls `on_member` with each key and value of the JSON object at the start of `text`. A string value is passed
/// unescaped, any other value as its JSON text. A null is no value, and is not passed. Returns the text after the
/// object, without white space.
#[inline(always)]
pub(super) fn read_object(
    text: &str,
    on_member: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<&str, String> {
    let mut json = sonic_rs::Deserializer::from_str(text);
    let members = Members { on_member, rejection: None };
    let rejection = json.deserialize_map(members).map_err(|error| reason(text, &error))?;
    if let Some(rejection) = rejection {
        return Err(rejection);
    }
    match json.end() {
        Ok(()) => Ok(""),
        Err(error) => rest(text, &error).ok_or_else(|| reason(text, &error)),
    }
}

/// Returns the next object after an object that `error` says is followed by something. Some senders, Firehose among
/// them, write objects without line breaks in between, and concatenated files may have a byte order mark there.
#[cold]
fn rest<'a>(text: &'a str, error: &sonic_rs::Error) -> Option<&'a str> {
    let rest = text.get(error.offset()..)?.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    (rest.is_empty() || rest.starts_with('{')).then_some(rest)
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

/// Visits the members of an object. After `on_member` rejects one, it is not called again.
struct Members<F> {
    on_member: F,
    rejection: Option<String>,
}

impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for Members<F> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    // Out of line, a call per line and one per member would cost a twentieth of the time.
    #[inline(always)]
    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            let value: LazyValue<'de> = entries.next_value()?;
            let text = match value.as_str() {
                Some(text) => text,
                None => match value.as_raw_str() {
                    "null" => continue,
                    text if text.starts_with('"') => {
                        return Err(A::Error::custom("a string has an unpaired surrogate"));
                    }
                    text => text,
                },
            };
            if self.rejection.is_none()
                && let Err(reason) = (self.on_member)(&key.0, text)
            {
                self.rejection = Some(reason);
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

fn reason(text: &str, error: &sonic_rs::Error) -> String {
    if !text.starts_with('{') {
        return format!("not a JSON object: it begins with {:?}", shorten(text));
    }
    // Drop the line number and the excerpt from the message: there is only one line.
    let message = error.to_string();
    let cause = message.split(" at line ").next().unwrap_or_default().trim_end_matches(" while parsing");
    format!(
        "not JSON at byte {}: {}",
        error.offset() + 1,
        cause.replace("Expected this character to be", "expected")
    )
}

fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}
