//! The batch of logs that stages process: flat columns, and their builder.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::reserved::field_key;
pub use crate::types::{LogBatch, LogGroup, Tag};

/// Builds a [`LogBatch`] log by log.
///
/// Similar logs have the same keys in the same order. So the builder predicts each key from the key before it, and
/// consults its hash table only after a misprediction.
#[derive(Debug)]
pub struct BatchBuilder {
    batch: LogBatch,
    key_index: HashMap<Box<str>, u32, RandomState>,
    /// The predicted next key of each key, at its index plus one. Index 0 predicts the first key of a log.
    next_keys: Vec<u32>,
    /// The index into `next_keys` of the prediction for the next field.
    prediction: usize,
    group_index: HashMap<LogGroup, u32, RandomState>,
    last_group: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            batch: empty(),
            key_index: HashMap::default(),
            next_keys: vec![0],
            prediction: 0,
            group_index: HashMap::default(),
            last_group: 0,
        }
    }
}

impl BatchBuilder {
    /// Returns the number of logs.
    pub fn len(&self) -> usize {
        self.batch.times.len()
    }

    /// Returns true if there are no logs.
    pub fn is_empty(&self) -> bool {
        self.batch.times.is_empty()
    }

    /// Adds a field to the current log, which the next [`end_log`](Self::end_log) completes. A reserved key becomes
    /// [`__field__:KEY`](crate::reserved::field_key).
    #[inline]
    pub fn field(&mut self, key: &str, value: &[u8]) {
        self.field_bytes(key.as_bytes(), value);
    }

    /// Adds a field like [`field`](Self::field). Bytes of the key that are not UTF-8 become replacement characters.
    #[inline(always)]
    pub fn field_bytes(&mut self, key: &[u8], value: &[u8]) {
        let predicted = self.next_keys[self.prediction];
        let index = match self.batch.keys.get(predicted as usize) {
            Some(known) if keys_equal(known.as_bytes(), key) => predicted,
            _ => self.look_up(&field_key(&String::from_utf8_lossy(key))),
        };
        self.prediction = index as usize + 1;
        let batch = &mut self.batch;
        batch.field_keys.push(index);
        batch.values.extend_from_slice(value);
        batch.value_ends.push(batch.values.len() as u32);
    }

    #[cold]
    fn look_up(&mut self, key: &str) -> u32 {
        let index = match self.key_index.get(key) {
            Some(&index) => index,
            None => {
                let index = self.batch.keys.len() as u32;
                self.batch.keys.push(key.to_owned());
                self.next_keys.push(0);
                self.key_index.insert(key.into(), index);
                index
            }
        };
        self.next_keys[self.prediction] = index;
        index
    }

    /// Completes a log with the fields added since the last one. `nanos` counts nanoseconds within the second.
    pub fn end_log(&mut self, group: u32, time: u32, nanos: u32) {
        let batch = &mut self.batch;
        if nanos != 0 && batch.nanos.is_empty() {
            batch.nanos.resize(batch.times.len(), 0);
        }
        if nanos != 0 || !batch.nanos.is_empty() {
            batch.nanos.push(nanos);
        }
        batch.times.push(time);
        batch.log_groups.push(group);
        batch.field_ends.push(batch.field_keys.len() as u32);
        self.prediction = 0;
    }

    /// Removes the fields added since the last completed log.
    pub fn drop_log(&mut self) {
        let batch = &mut self.batch;
        let fields = batch.field_ends.last().map_or(0, |&end| end as usize);
        batch.field_keys.truncate(fields);
        batch.value_ends.truncate(fields);
        batch.values.truncate(batch.value_ends.last().map_or(0, |&end| end as usize));
        self.prediction = 0;
    }

    /// Removes the logs from index `len` on, and the fields of the current log.
    pub fn truncate(&mut self, len: usize) {
        let batch = &mut self.batch;
        batch.times.truncate(len);
        batch.nanos.truncate(len);
        batch.log_groups.truncate(len);
        batch.field_ends.truncate(len);
        self.drop_log();
    }

    /// Sets the group of all logs from index `log` on.
    pub fn set_group(&mut self, log: usize, group: u32) {
        self.batch.log_groups[log..].fill(group);
    }

    /// Returns the index of a group, for [`end_log`](Self::end_log).
    pub fn group(&mut self, group: &LogGroup) -> u32 {
        if self.batch.groups.get(self.last_group as usize) == Some(group) {
            return self.last_group;
        }
        self.last_group = self.look_up_group(group);
        self.last_group
    }

    fn look_up_group(&mut self, group: &LogGroup) -> u32 {
        if let Some(&index) = self.group_index.get(group) {
            return index;
        }
        let index = self.batch.groups.len() as u32;
        self.batch.groups.push(group.clone());
        self.group_index.insert(group.clone(), index);
        index
    }

    /// Returns the batch and leaves the builder empty, with capacity for a similar batch.
    pub fn take(&mut self) -> LogBatch {
        let mut next = Self::default();
        next.batch.reserve_like(&self.batch);
        std::mem::replace(self, next).batch
    }
}

pub(crate) fn empty() -> LogBatch {
    LogBatch {
        groups: vec![],
        keys: vec![],
        times: vec![],
        nanos: vec![],
        log_groups: vec![],
        field_ends: vec![],
        field_keys: vec![],
        value_ends: vec![],
        values: vec![],
    }
}

/// Returns true if two keys are equal. Compares keys of up to 16 bytes, which most are, without a call to `memcmp`.
#[inline(always)]
fn keys_equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    fn ends<const N: usize>(text: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        Some((text.first_chunk()?, text.last_chunk()?))
    }
    match a.len() {
        8..=16 => ends::<8>(a) == ends::<8>(b),
        4..8 => ends::<4>(a) == ends::<4>(b),
        _ => a == b,
    }
}

/// The approximate overhead of a field in an object, in bytes: quotes and separators.
const FIELD_WEIGHT: usize = 6;
/// The approximate overhead of a log in an object, in bytes: the reserved fields.
const LOG_WEIGHT: usize = 64;

impl LogBatch {
    /// Reserves capacity for as much as the columns of `other` hold.
    fn reserve_like(&mut self, other: &Self) {
        for (column, other) in [
            (&mut self.times, &other.times),
            (&mut self.nanos, &other.nanos),
            (&mut self.log_groups, &other.log_groups),
            (&mut self.field_ends, &other.field_ends),
            (&mut self.field_keys, &other.field_keys),
            (&mut self.value_ends, &other.value_ends),
        ] {
            column.reserve(other.len() + other.len() / 8);
        }
        self.values.reserve(other.values.len() + other.values.len() / 8);
    }

    /// Checks the invariants of `log-batch` in `wit/deps/batch`, which a batch made by a stage may violate.
    ///
    /// # Errors
    /// Returns a description of the violated invariant.
    pub fn check(&self) -> Result<(), &'static str> {
        let (logs, fields) = (self.times.len(), self.field_keys.len());
        let nanos = self.nanos.is_empty() || self.nanos.len() == logs;
        let violations = [
            (
                self.field_ends.len() != logs || self.log_groups.len() != logs || !nanos,
                "times, nanos, log-groups and field-ends differ in length",
            ),
            (self.value_ends.len() != fields, "field-keys and value-ends differ in length"),
            (!covers(&self.field_ends, fields), "field-ends do not cover the fields"),
            (!covers(&self.value_ends, self.values.len()), "value-ends do not cover the values"),
            (!are_below(&self.log_groups, self.groups.len()), "log-groups has an index outside groups"),
            (!are_below(&self.field_keys, self.keys.len()), "field-keys has an index outside keys"),
            (self.nanos.iter().any(|&nanos| nanos >= 1_000_000_000), "nanos has a value of a second or more"),
            (!are_distinct(&self.groups), "groups contains a duplicate"),
            (!are_distinct(&self.keys), "keys contains a duplicate"),
        ];
        violations.into_iter().find(|(violated, _)| *violated).map_or(Ok(()), |(_, invariant)| Err(invariant))
    }

    /// Returns the number of logs.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Returns true if there are no logs.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Returns the approximate memory use, in bytes.
    pub fn bytes(&self) -> usize {
        let texts = self.keys.iter().map(String::len).chain(self.groups.iter().map(LogGroup::bytes));
        self.values.len()
            + 8 * self.field_keys.len()
            + 16 * self.len()
            + texts.map(|text| text + 24).sum::<usize>()
    }

    /// Returns an upper bound of the total weight of all logs, without visiting every log.
    pub fn max_weight(&self) -> usize {
        let longest = self.keys.iter().map(String::len).max().unwrap_or(0);
        let group = self.groups.iter().map(LogGroup::bytes).max().unwrap_or(0);
        self.values.len()
            + self.field_keys.len() * (longest + FIELD_WEIGHT)
            + self.len() * (LOG_WEIGHT + group)
    }

    /// Returns the approximate size of each log as text with its keys, in bytes.
    pub fn weights(&self, logs: Range<usize>) -> impl Iterator<Item = usize> {
        // Summed once: many logs may share a group of many tags.
        let groups: Vec<usize> = self.groups.iter().map(LogGroup::bytes).collect();
        logs.map(move |log| {
            let fields = self.fields(log..log + 1);
            let keys = self.field_keys[fields.clone()].iter();
            let keys: usize = keys.map(|&key| self.keys[key as usize].len() + FIELD_WEIGHT).sum();
            keys + self.value_range(fields).len() + LOG_WEIGHT + groups[self.log_groups[log] as usize]
        })
    }

    /// Returns the keys and values of a log's fields.
    pub fn log_fields(&self, log: usize) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields(log..log + 1).map(|field| {
            let value = &self.values[self.value_range(field..field + 1)];
            (self.keys[self.field_keys[field] as usize].as_str(), value)
        })
    }

    pub(crate) fn fields(&self, logs: Range<usize>) -> Range<usize> {
        start(&self.field_ends, logs.start)..start(&self.field_ends, logs.end)
    }

    pub(crate) fn value_range(&self, fields: Range<usize>) -> Range<usize> {
        start(&self.value_ends, fields.start)..start(&self.value_ends, fields.end)
    }
}

impl LogGroup {
    /// Returns the size of the texts, in bytes.
    fn bytes(&self) -> usize {
        let tags = self.tags.iter().map(|tag| tag.key.len() + tag.value.len() + 2 * FIELD_WEIGHT);
        self.topic.len() + self.source.len() + tags.sum::<usize>()
    }
}

/// Returns true if `ends` never decreases and its last element is `count`. Each element is the end of a run.
fn covers(ends: &[u32], count: usize) -> bool {
    // The loop has no early exit, so that the compiler vectorizes it.
    let sorted =
        ends.iter().zip(ends.iter().skip(1)).fold(true, |sorted, (end, next)| sorted & (end <= next));
    sorted && ends.last().map_or(0, |&end| end as usize) == count
}

/// Returns true if every index is less than `count`.
fn are_below(indices: &[u32], count: usize) -> bool {
    indices.is_empty() || (indices.iter().fold(0, |most, &index| most.max(index)) as usize) < count
}

fn are_distinct<T: Hash + Eq>(items: &[T]) -> bool {
    let mut seen = HashSet::with_capacity_and_hasher(items.len(), RandomState::default());
    items.iter().all(|item| seen.insert(item))
}

/// Returns the start of run `index`, given the ends of all runs.
fn start(ends: &[u32], index: usize) -> usize {
    index.checked_sub(1).map_or(0, |before| ends[before] as usize)
}

impl PartialEq for LogGroup {
    fn eq(&self, other: &Self) -> bool {
        self.topic == other.topic && self.source == other.source && self.tags == other.tags
    }
}

impl Eq for LogGroup {}

impl std::hash::Hash for LogGroup {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.topic, &self.source).hash(state);
        self.tags.iter().for_each(|tag| (&tag.key, &tag.value).hash(state));
    }
}

impl PartialEq for Tag {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.value) == (&other.key, &other.value)
    }
}

impl Eq for Tag {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_violated_invariant() {
        type Damage = fn(&mut LogBatch);
        let cases: [(&str, Damage); 12] = [
            ("differ in length", |batch| batch.times.push(1)),
            ("differ in length", |batch| batch.nanos.push(1)),
            ("differ in length", |batch| batch.field_keys.push(0)),
            ("differ in length", |batch| batch.log_groups.truncate(1)),
            ("outside groups", |batch| batch.log_groups[1] = 2),
            ("field-ends do not cover", |batch| batch.field_ends[0] = 3),
            ("value-ends do not cover", |batch| batch.values.push(b'x')),
            ("value-ends do not cover", |batch| batch.value_ends[0] = u32::MAX),
            ("outside keys", |batch| batch.field_keys[0] = 2),
            ("second or more", |batch| batch.nanos = vec![0, 1_000_000_000]),
            ("groups contains a duplicate", |batch| batch.groups.push(batch.groups[0].clone())),
            ("keys contains a duplicate", |batch| batch.keys.push("key".into())),
        ];
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        for time in [1, 2] {
            builder.field_bytes(b"key", b"value");
            builder.end_log(group, time, 0);
        }
        let valid = builder.take();
        assert_eq!(valid.check(), Ok(()));
        for (message, damage) in cases {
            let mut batch = valid.clone();
            damage(&mut batch);
            let violation = batch.check().unwrap_err();
            assert!(violation.contains(message), "{violation} should contain {message}");
        }
    }

    #[test]
    fn slice_is_independent_of_other_logs() {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        for (time, nanos) in [(1, 0), (2, 0), (3, 5)] {
            builder.field_bytes(b"key", b"value");
            builder.end_log(group, time, nanos);
        }
        let batch = builder.take();
        assert_eq!(batch.slice(0..2).nanos, Vec::<u32>::new(), "none of these logs has nanoseconds");
        assert_eq!((batch.slice(1..3).times, batch.slice(1..3).nanos), (vec![2, 3], vec![0, 5]));
    }
}
