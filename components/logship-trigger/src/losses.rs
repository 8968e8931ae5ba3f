//! Values of logs that are not in the object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stages::encoder;

/// The header with the lost values, as JSON in ASCII. An answer without it lost nothing, or its encoder does not tell.
pub const LOST: &str = "x-logship-lost";

/// The configuration by which the encoder is asked: see `wit/deps/losses`.
const QUESTION: &str = r#"{"logship:take-losses":true}"#;

/// The path of the answer.
const PATH: &str = "logship:take-losses";

/// The largest header, in bytes: proxies allow 8 KiB for all headers. The values of further columns count only in the
/// total.
const MAX_HEADER_BYTES: usize = 3000;

/// The lost values of a column.
#[derive(Debug, Deserialize)]
struct Loss {
    column: String,
    count: u64,
    example: String,
    reason: String,
}

/// The lost values of an object.
#[derive(Debug, Default, Serialize)]
pub struct Losses {
    total: u64,
    columns: BTreeMap<String, Column>,
}

#[derive(Debug, Serialize)]
struct Column {
    count: u64,
    example: String,
    reason: String,
}

impl Losses {
    /// Takes the values that the encoder lost since the last call. A call encodes without a pause, so the values of
    /// concurrent calls are apart.
    pub fn take() -> Self {
        match encoder::Object::open(QUESTION) {
            Err(encoder::Error::InvalidConfig(problem)) if problem.path == PATH => {
                Self::parse(&problem.reason)
            }
            // The encoder does not know the question.
            _ => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let found: Vec<Loss> = serde_json::from_str(text).unwrap_or_default();
        let mut losses = Self::default();
        for Loss { column, count, example, reason } in found {
            losses.total = losses.total.saturating_add(count);
            let new = Column { count: 0, example, reason };
            let known = losses.columns.entry(column).or_insert(new);
            known.count = known.count.saturating_add(count);
        }
        losses
    }

    /// Returns the header, if values were lost.
    pub fn header(&self) -> Option<String> {
        if self.total == 0 {
            return None;
        }
        let mut columns = BTreeMap::new();
        let mut bytes = 0;
        for (column, lost) in &self.columns {
            bytes += ascii(&json!({ column: lost }).to_string()).len();
            if bytes <= MAX_HEADER_BYTES {
                columns.insert(column, lost);
            }
        }
        Some(ascii(&json!({ "total": self.total, "columns": columns }).to_string()))
    }
}

/// Escapes the characters of JSON text that are not ASCII.
fn ascii(json: &str) -> String {
    let escape = |unit: &u16| format!("\\u{unit:04x}");
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii_graphic() || character == ' ' {
            text.push(character);
        } else {
            text.extend(character.encode_utf16(&mut [0; 2]).iter().map(escape));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn header_is_json_in_ascii() {
        assert_eq!(Losses::parse("[]").header(), None);
        assert_eq!(Losses::parse("nonsense").header(), None);
        let answer = r#"[{"column":"é\u007f\n","count":2,"example":"😀","reason":"r"},{"column":"é\u007f\n","count":1,"example":"x","reason":"r"}]"#;
        let header = Losses::parse(answer).header().unwrap();
        assert!(header.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{header}");
        let read: Value = serde_json::from_str(&header).unwrap();
        let column = json!({ "count": 3, "example": "😀", "reason": "r" });
        assert_eq!(read, json!({ "total": 3, "columns": { "é\u{7f}\n": column } }));
    }

    #[test]
    fn header_is_bounded() {
        let loss = |number: usize| json!({ "column": format!("c{number}"), "count": 2, "example": "é".repeat(80), "reason": "r" });
        let answer = Value::from((0..5000).map(loss).collect::<Vec<_>>()).to_string();
        let header = Losses::parse(&answer).header().unwrap();
        assert!(header.len() < MAX_HEADER_BYTES + 100, "{}", header.len());
        let read: Value = serde_json::from_str(&header).unwrap();
        assert_eq!((read["total"].as_u64(), read["columns"].as_object().unwrap().len()), (Some(10_000), 5));
    }
}
