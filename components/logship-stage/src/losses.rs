use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

pub use crate::bindings::losses::exports::logship::losses::losses::Loss;

use crate::{Batch, Repeats};

/// The longest example of a lost value, in characters.
const MAX_EXAMPLE: usize = 80;

/// The reason why a repeated value is lost.
const REPEATED: &str = "is not the last value of its key";

/// The configuration by which a function asks for the lost values: see `wit/deps/losses`.
pub(crate) const QUESTION: &str = r#"{"logship:take-losses":true}"#;

/// The path of the answer to [`QUESTION`].
pub(crate) const PATH: &str = "logship:take-losses";

/// Returns lost values as JSON.
pub(crate) fn to_json(losses: &[Loss]) -> String {
    let to_json = |loss: &Loss| {
        let Loss { column, count, example, reason } = loss;
        json!({ "column": column, "count": count, "example": example, "reason": reason })
    };
    Value::from(losses.iter().map(to_json).collect::<Vec<_>>()).to_string()
}

/// Collects the values that an object cannot hold, by column or field.
///
/// ```
/// use logship_stage::Losses;
///
/// let mut losses = Losses::default();
/// losses.add("status", b"ERR", || "is not an int64".into());
/// losses.add("status", b"?", || "is not an int64".into());
/// let found = losses.take();
/// assert_eq!((found[0].column.as_str(), found[0].count, found[0].example.as_str()), ("status", 2, "ERR"));
/// assert!(losses.take().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Losses {
    found: Vec<Loss>,
    /// The place in `found` of each column.
    places: HashMap<String, usize>,
}

impl Losses {
    /// Counts a lost value of a column, or of the field with a key.
    #[cold]
    pub fn add(&mut self, column: &str, value: &[u8], reason: impl FnOnce() -> String) {
        self.add_count(column, value, 1, reason);
    }

    fn add_count(&mut self, column: &str, value: &[u8], count: u64, reason: impl FnOnce() -> String) {
        if let Some(&place) = self.places.get(column) {
            self.found[place].count += count;
            return;
        }
        self.places.insert(column.to_owned(), self.found.len());
        // More bytes than characters may be needed, but not more than four for each.
        let start = String::from_utf8_lossy(&value[..value.len().min(4 * MAX_EXAMPLE)]);
        let example = start.chars().take(MAX_EXAMPLE).collect();
        self.found.push(Loss { column: column.to_owned(), count, example, reason: reason() });
    }

    /// Counts the repeated values of the fields that `is_wanted` selects by their keys.
    #[cold]
    pub fn add_repeats(&mut self, batch: &Batch, repeats: &Repeats, is_wanted: impl Fn(&str) -> bool) {
        let raw = batch.raw();
        for field in repeats.fields().iter().map(|&field| field as usize) {
            let key = &raw.keys[raw.field_keys[field] as usize];
            if is_wanted(key) {
                let begin = field.checked_sub(1).map_or(0, |before| raw.value_ends[before] as usize);
                self.add(key, &raw.values[begin..raw.value_ends[field] as usize], || REPEATED.into());
            }
        }
    }

    /// Counts the repeated tags that `is_wanted` selects, once for each log.
    pub fn add_repeated_tags(&mut self, batch: &Batch, is_wanted: impl Fn(&str) -> bool) {
        for group in batch.groups().filter(|group| group.tags().len() > 1) {
            let mut later = HashSet::new();
            for tag in group.tags().iter().rev() {
                if !later.insert(&tag.key) && is_wanted(&tag.key) {
                    let (column, logs) = (format!("__tag__:{}", tag.key), group.logs().count() as u64);
                    self.add_count(&column, tag.value.as_bytes(), logs, || REPEATED.into());
                }
            }
        }
    }

    /// Returns what was lost since the last call, and forgets it.
    pub fn take(&mut self) -> Vec<Loss> {
        self.places.clear();
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_json() {
        let loss =
            Loss { column: "a\"\n".into(), count: 2, example: "é".into(), reason: "is not an int64".into() };
        let expected = r#"[{"column":"a\"\n","count":2,"example":"é","reason":"is not an int64"}]"#;
        assert_eq!((to_json(&[loss]).as_str(), to_json(&[]).as_str()), (expected, "[]"));
        let question: Value = serde_json::from_str(QUESTION).unwrap();
        assert_eq!(question[PATH], true);
    }
}
