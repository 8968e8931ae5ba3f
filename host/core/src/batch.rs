//! The logs that a stage works on: flat columns, and how they are built.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;

use foldhash::fast::RandomState;

pub use crate::types::{LogBatch, LogGroup, Tag};

/// Builds a [`LogBatch`] log by log.
///
/// Logs of one kind have the same keys in the same order, so the builder guesses each key from the
/// one before it, and looks into its table only where the guess is wrong.
#[derive(Debug)]
pub struct BatchBuilder {
    batch: LogBatch,
    key_index: HashMap<Box<str>, u32, RandomState>,
    /// For each key, the one that came behind it last time; the first element: the log's first.
    followers: Vec<u32>,
    /// Where the last key's follower stands in `followers`.
    last: usize,
    group_index: HashMap<LogGroup, u32, RandomState>,
    last_group: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            batch: empty(),
            key_index: HashMap::default(),
            followers: vec![0],
            last: 0,
            group_index: HashMap::default(),
            last_group: 0,
        }
    }
}

impl BatchBuilder {
    /// How many logs there are.
    pub fn len(&self) -> usize {
        self.batch.times.len()
    }

    /// Whether there is no log.
    pub fn is_empty(&self) -> bool {
        self.batch.times.is_empty()
    }

    /// Adds a field to the log that the next [`end_log`](Self::end_log) ends.
    #[inline]
    pub fn field(&mut self, key: &str, value: &[u8]) {
        self.field_bytes(key.as_bytes(), value);
    }

    /// As [`field`](Self::field); what of the key is not UTF-8 becomes the replacement character.
    #[inline(always)]
    pub fn field_bytes(&mut self, key: &[u8], value: &[u8]) {
        let guess = self.followers[self.last];
        let index = match self.batch.keys.get(guess as usize) {
            Some(guessed) if same(guessed.as_bytes(), key) => guess,
            _ => self.look_up(&String::from_utf8_lossy(key)),
        };
        self.last = index as usize + 1;
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
                self.followers.push(0);
                self.key_index.insert(key.into(), index);
                index
            }
        };
        self.followers[self.last] = index;
        index
    }

    /// Ends a log with the fields added since the last one. `nanos` are those within the second.
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
        self.last = 0;
    }

    /// Takes the fields added since the last log back.
    pub fn drop_log(&mut self) {
        let batch = &mut self.batch;
        let fields = batch.field_ends.last().map_or(0, |&end| end as usize);
        batch.field_keys.truncate(fields);
        batch.value_ends.truncate(fields);
        batch.values.truncate(batch.value_ends.last().map_or(0, |&end| end as usize));
        self.last = 0;
    }

    /// Takes back the logs from `len` on, and the fields added since the last.
    pub fn truncate(&mut self, len: usize) {
        let batch = &mut self.batch;
        batch.times.truncate(len);
        batch.nanos.truncate(len);
        batch.log_groups.truncate(len);
        batch.field_ends.truncate(len);
        self.drop_log();
    }

    /// Puts the logs from `log` on into another group.
    pub fn regroup(&mut self, log: usize, group: u32) {
        self.batch.log_groups[log..].fill(group);
    }

    /// The index of a group for [`end_log`](Self::end_log).
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

    /// The batch; the builder is empty then, with room for another one like it.
    pub fn take(&mut self) -> LogBatch {
        let mut next = Self::default();
        next.batch.make_room_as(&self.batch);
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

/// Whether two keys are the same. Most have no more than 16 bytes, and are compared without a call.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
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

/// What an object takes for a log besides its values, about: quotes and separators of a field, and
/// the reserved fields.
const FIELD_WEIGHT: usize = 6;
const LOG_WEIGHT: usize = 64;

impl LogBatch {
    /// Takes room for as much as `other` has in its columns.
    fn make_room_as(&mut self, other: &Self) {
        for (column, like) in [
            (&mut self.times, &other.times),
            (&mut self.nanos, &other.nanos),
            (&mut self.log_groups, &other.log_groups),
            (&mut self.field_ends, &other.field_ends),
            (&mut self.field_keys, &other.field_keys),
            (&mut self.value_ends, &other.value_ends),
        ] {
            column.reserve(like.len() + like.len() / 8);
        }
        self.values.reserve(other.values.len() + other.values.len() / 8);
    }

    /// Whether it keeps the invariants of `log-batch` in `wit/deps/batch`: one that a stage made may not.
    ///
    /// # Errors
    /// The invariant that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let (logs, fields) = (self.times.len(), self.field_keys.len());
        let nanos = self.nanos.is_empty() || self.nanos.len() == logs;
        let broken = [
            (
                self.field_ends.len() != logs || self.log_groups.len() != logs || !nanos,
                "times, nanos, log-groups and field-ends differ in length",
            ),
            (self.value_ends.len() != fields, "field-keys and value-ends differ in length"),
            (!covers(&self.field_ends, fields), "field-ends do not cover the fields"),
            (!covers(&self.value_ends, self.values.len()), "value-ends do not cover the values"),
            (!within(&self.log_groups, self.groups.len()), "log-groups has an index outside groups"),
            (!within(&self.field_keys, self.keys.len()), "field-keys has an index outside keys"),
            (self.nanos.iter().any(|&nanos| nanos >= 1_000_000_000), "nanos has a value of a second or more"),
            (!are_distinct(&self.groups), "groups has one twice"),
            (!are_distinct(&self.keys), "keys has one twice"),
        ];
        broken.into_iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, invariant)| Err(invariant))
    }

    /// How many logs there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no log.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let texts = self.keys.iter().map(String::len).chain(self.groups.iter().map(LogGroup::bytes));
        self.values.len()
            + 8 * self.field_keys.len()
            + 16 * self.len()
            + texts.map(|text| text + 24).sum::<usize>()
    }

    /// At least the weights of all logs together, known at once.
    pub fn heaviest(&self) -> usize {
        let longest = self.keys.iter().map(String::len).max().unwrap_or(0);
        let group = self.groups.iter().map(LogGroup::bytes).max().unwrap_or(0);
        self.values.len()
            + self.field_keys.len() * (longest + FIELD_WEIGHT)
            + self.len() * (LOG_WEIGHT + group)
    }

    /// About how many bytes log `log` takes as text with its keys.
    pub fn weight(&self, log: usize) -> usize {
        let fields = self.fields(log..log + 1);
        let keys: usize = self.field_keys[fields.clone()]
            .iter()
            .map(|&key| self.keys[key as usize].len() + FIELD_WEIGHT)
            .sum();
        let group = self.groups[self.log_groups[log] as usize].bytes();
        keys + self.value_range(fields).len() + LOG_WEIGHT + group
    }

    /// The logs in `logs` as a batch of its own.
    pub fn slice(&self, logs: Range<usize>) -> Self {
        let fields = self.fields(logs.clone());
        let values = self.value_range(fields.clone());
        let from = |ends: &[u32], start: usize| ends.iter().map(|end| end - start as u32).collect();
        Self {
            groups: self.groups.clone(),
            keys: self.keys.clone(),
            times: self.times[logs.clone()].to_vec(),
            // None where none of these has any, as if the others had never been beside them: an object's bytes must
            // not depend on what was read behind its end.
            nanos: self
                .nanos
                .get(logs.clone())
                .filter(|nanos| nanos.iter().any(|&nanos| nanos != 0))
                .unwrap_or_default()
                .to_vec(),
            log_groups: self.log_groups[logs.clone()].to_vec(),
            field_ends: from(&self.field_ends[logs], fields.start),
            field_keys: self.field_keys[fields.clone()].to_vec(),
            value_ends: from(&self.value_ends[fields], values.start),
            values: self.values[values].to_vec(),
        }
    }

    /// The fields of log `log`, keys and values.
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
    /// Bytes of its texts.
    fn bytes(&self) -> usize {
        let tags = self.tags.iter().map(|tag| tag.key.len() + tag.value.len() + 2 * FIELD_WEIGHT);
        self.topic.len() + self.source.len() + tags.sum::<usize>()
    }
}

/// Whether `ends` never falls and ends at `count`: each element is one past a run's last.
fn covers(ends: &[u32], count: usize) -> bool {
    // Without a way out of the loop, so that it becomes SIMD.
    let sorted =
        ends.iter().zip(ends.iter().skip(1)).fold(true, |sorted, (end, next)| sorted & (end <= next));
    sorted && ends.last().map_or(0, |&end| end as usize) == count
}

/// Whether every index is one of `count` things.
fn within(indices: &[u32], count: usize) -> bool {
    indices.is_empty() || (indices.iter().fold(0, |most, &index| most.max(index)) as usize) < count
}

fn are_distinct<T: Hash + Eq>(items: &[T]) -> bool {
    let mut seen = HashSet::with_capacity_and_hasher(items.len(), RandomState::default());
    items.iter().all(|item| seen.insert(item))
}

/// Where run `index` begins, given one past the last of each.
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
    fn each_broken_invariant_is_named() {
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
            ("groups has one twice", |batch| batch.groups.push(batch.groups[0].clone())),
            ("keys has one twice", |batch| batch.keys.push("key".into())),
        ];
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        for time in [1, 2] {
            builder.field_bytes(b"key", b"value");
            builder.end_log(group, time, 0);
        }
        let whole = builder.take();
        assert_eq!(whole.check(), Ok(()));
        for (message, damage) in cases {
            let mut batch = whole.clone();
            damage(&mut batch);
            let broken = batch.check().unwrap_err();
            assert!(broken.contains(message), "{broken} should say {message}");
        }
    }

    #[test]
    fn a_slice_is_as_if_the_other_logs_had_never_been_there() {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        for (time, nanos) in [(1, 0), (2, 0), (3, 5)] {
            builder.field_bytes(b"key", b"value");
            builder.end_log(group, time, nanos);
        }
        let batch = builder.take();
        assert_eq!(batch.slice(0..2).nanos, Vec::<u32>::new(), "none of these has any");
        assert_eq!((batch.slice(1..3).times, batch.slice(1..3).nanos), (vec![2, 3], vec![0, 5]));
    }
}
