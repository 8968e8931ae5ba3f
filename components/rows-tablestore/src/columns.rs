//! The columns of fields and properties that the configuration does not map.

use std::collections::{HashMap, HashSet};

use logship_stage::{Batch, LogGroup, distinct_tags};

use crate::plain_buffer::Name;

/// The longest name of a column, in bytes.
const MAX_NAME: usize = 255;

/// The prefix of the keys of tags.
const TAG: &str = "__tag__:";

/// The keys of the properties of a log.
const TIME: &str = "__time__";
const NANOS: &str = "__time_ns_part__";
const TOPIC: &str = "__topic__";
const SOURCE: &str = "__source__";

/// The columns of keys that the configuration does not map.
#[derive(Debug)]
pub(crate) struct OtherColumns {
    is_wanted: bool,
    /// Keys that get no column: excluded ones, and those that mapped columns use.
    skipped: HashSet<String>,
    /// The names of the key's and of mapped columns.
    taken: HashSet<String>,
    by_key: HashMap<String, Slot>,
    names: Vec<(String, Name)>,
    by_name: HashMap<String, u32>,
}

/// The column of a key: none, its index among the names, or one that has another value already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    None,
    Column(u32),
    Taken(u32),
}

/// The columns of the keys of a batch.
#[derive(Debug)]
pub(crate) struct BatchColumns {
    /// For each key of the batch, its column.
    pub(crate) fields: Vec<Slot>,
    /// For each group, its properties: index of the column and value.
    pub(crate) groups: Vec<Vec<(Slot, String)>>,
    pub(crate) time: Slot,
    pub(crate) nanos: Slot,
    /// True if several keys of the batch have the same column.
    pub(crate) may_collide: bool,
}

impl OtherColumns {
    pub(crate) fn new(is_wanted: bool, skipped: HashSet<String>, taken: HashSet<String>) -> Self {
        let (by_key, by_name) = (HashMap::new(), HashMap::new());
        Self { is_wanted, skipped, taken, by_key, names: vec![], by_name }
    }

    /// Returns the name of a column.
    pub(crate) fn name(&self, column: u32) -> &Name {
        &self.names[column as usize].1
    }

    /// Returns the text of a column's name.
    pub(crate) fn text(&self, column: u32) -> &str {
        &self.names[column as usize].0
    }

    /// Looks up the columns of the keys of a batch.
    pub(crate) fn of(&mut self, batch: &Batch) -> BatchColumns {
        let raw = batch.raw();
        if !self.is_wanted {
            let (fields, groups) = (vec![Slot::None; raw.keys.len()], vec![vec![]; raw.groups.len()]);
            let (time, nanos) = (Slot::None, Slot::None);
            return BatchColumns { fields, groups, time, nanos, may_collide: false };
        }
        let time = self.slot(TIME);
        let nanos = if raw.nanos.is_empty() { Slot::None } else { self.slot(NANOS) };
        let fields: Vec<_> = raw.keys.iter().map(|key| self.slot(key)).collect();
        let groups: Vec<_> = raw.groups.iter().map(|group| self.properties(group)).collect();
        let mut seen = HashSet::new();
        let mut is_repeated = |slot: &Slot| match slot {
            Slot::None => false,
            Slot::Taken(_) => true,
            Slot::Column(column) => !seen.insert(*column),
        };
        let mut may_collide =
            [time, nanos].iter().chain(&fields).filter(|slot| is_repeated(slot)).count() > 0;
        let mut of_groups = HashSet::new();
        for group in &groups {
            let mut own = HashSet::new();
            may_collide |= group.iter().any(|(slot, _)| matches!(slot, Slot::Taken(_)) || !own.insert(*slot));
            of_groups.extend(own);
        }
        may_collide |= of_groups.iter().any(is_repeated);
        BatchColumns { fields, groups, time, nanos, may_collide }
    }

    fn properties(&mut self, group: &LogGroup) -> Vec<(Slot, String)> {
        let mut properties = vec![];
        for (key, value) in [(TOPIC, &group.topic), (SOURCE, &group.source)] {
            if !value.is_empty() {
                properties.push((self.slot(key), value.clone()));
            }
        }
        for tag in distinct_tags(group) {
            properties.push((self.slot(&format!("{TAG}{}", tag.key)), tag.value.clone()));
        }
        properties.retain(|(slot, _)| *slot != Slot::None);
        properties
    }

    fn slot(&mut self, key: &str) -> Slot {
        if let Some(slot) = self.by_key.get(key) {
            return *slot;
        }
        let slot = if self.skipped.contains(key) { Slot::None } else { self.new_slot(key) };
        self.by_key.insert(key.to_owned(), slot);
        slot
    }

    fn new_slot(&mut self, key: &str) -> Slot {
        let name = column_name(key);
        let next = self.names.len() as u32;
        let column = *self.by_name.entry(name.clone()).or_insert(next);
        let is_taken = self.taken.contains(&name);
        if column == next {
            let made = Name::new(&name);
            self.names.push((name, made));
        }
        if is_taken { Slot::Taken(column) } else { Slot::Column(column) }
    }
}

/// Returns the name of a key's column: each character that no name has becomes `_`, and a digit at the beginning gets
/// one before it.
pub(crate) fn column_name(key: &str) -> String {
    let valid = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let mut name: String = key.chars().map(valid).collect();
    if !name.starts_with(|first: char| !first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name.truncate(MAX_NAME);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_and_underscores() {
        for (key, name) in [
            ("status", "status"),
            ("Status_2", "Status_2"),
            ("user-agent", "user_agent"),
            ("__tag__:x", "__tag___x"),
            ("é b", "__b"),
            ("1st", "_1st"),
            ("", "_"),
        ] {
            assert_eq!(column_name(key), name);
        }
        assert_eq!(column_name(&"é".repeat(300)).len(), MAX_NAME);
    }
}
