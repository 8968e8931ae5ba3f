use fastrand::Rng;

use super::text::push_number;

/// A text with placeholders: `#` becomes a number, and `^` a word.
#[derive(Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Vec<u8>),
    Number,
    Word,
}

impl Template {
    /// Creates a template whose text is escaped for a JSON string.
    pub(crate) fn in_string(text: &str) -> Self {
        let json = serde_json::Value::from(text).to_string();
        Self::raw(&json[1..json.len() - 1])
    }

    /// Creates a template without escaping.
    pub(crate) fn raw(text: &str) -> Self {
        let mut parts = vec![];
        for piece in text.split_inclusive(['#', '^']) {
            let plain = piece.trim_end_matches(['#', '^']);
            parts.push(Part::Text(plain.into()));
            match piece.as_bytes().last() {
                Some(b'#') => parts.push(Part::Number),
                Some(b'^') => parts.push(Part::Word),
                _ => {}
            }
        }
        Self { parts }
    }

    #[inline]
    pub(crate) fn push(&self, out: &mut Vec<u8>, rng: &mut Rng, words: &[&str]) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Number => push_number(out, super::pick::skewed_number(rng, 17)),
                Part::Word => out.extend_from_slice(words[rng.usize(..words.len())].as_bytes()),
            }
        }
    }
}
