use std::collections::HashSet;
use std::ops::Range;

pub use crate::bindings::encoder::logship::batch::types::{LogBatch, LogGroup, Tag};
use crate::reserved::rename_fields;
use crate::{Error, Result};

/// A [`LogBatch`] with checked invariants. Iterates over groups of logs of fields.
///
/// ```
/// use logship_stage::{Batch, BatchBuilder};
///
/// let batch = BatchBuilder::new()
///     .group("nginx", "10.0.0.1", &[("__hostname__", "web-1")])
///     .log(1_484_913_043, &[("method", "GET"), ("status", "200")])
///     .build();
/// for group in batch.groups() {
///     for log in group.logs() {
///         let fields: Vec<_> = log.fields().map(|field| (field.key(), field.value())).collect();
///         assert_eq!(fields, [("method", &b"GET"[..]), ("status", b"200")]);
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Batch(LogBatch);

impl Batch {
    /// Checks the invariants of `log-batch` once for the whole batch. Renames the fields with reserved keys, such as
    /// `__time__`, to [`__field__:KEY`](crate::field_key).
    ///
    /// # Errors
    /// [`Error::InvalidBatch`] with the broken invariant.
    pub fn new(mut raw: LogBatch) -> Result<Self> {
        let broken = |invariant: &str| Err(Error::InvalidBatch(invariant.to_owned()));
        let (logs, fields) = (raw.times.len(), raw.field_keys.len());
        let nanos = raw.nanos.is_empty() || raw.nanos.len() == logs;
        if raw.field_ends.len() != logs || raw.log_groups.len() != logs || !nanos {
            return broken("times, nanos, log-groups and field-ends differ in length");
        }
        if raw.value_ends.len() != fields {
            return broken("field-keys and value-ends differ in length");
        }
        if !covers(&raw.field_ends, fields) {
            return broken("field-ends do not cover the fields");
        }
        if !covers(&raw.value_ends, raw.values.len()) {
            return broken("value-ends do not cover the values");
        }
        if !within(&raw.log_groups, raw.groups.len()) {
            return broken("log-groups has an index outside groups");
        }
        if !within(&raw.field_keys, raw.keys.len()) {
            return broken("field-keys has an index outside keys");
        }
        if raw.nanos.iter().any(|&nanos| nanos >= 1_000_000_000) {
            return broken("nanos has a value of a second or more");
        }
        rename_fields(&mut raw);
        Ok(Self(raw))
    }

    /// Returns a batch whose invariants are known to hold.
    pub(crate) fn unchecked(raw: LogBatch) -> Self {
        Self(raw)
    }

    /// Returns the number of logs.
    pub fn len(&self) -> usize {
        self.0.times.len()
    }

    /// Returns true if the batch has no logs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the columns as they crossed the component boundary.
    pub fn raw(&self) -> &LogBatch {
        &self.0
    }

    /// Consumes the batch and returns its columns.
    pub fn into_raw(self) -> LogBatch {
        self.0
    }

    /// Iterates over the runs of consecutive logs of one group, in log order.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let mut begin = 0;
        self.0.log_groups.chunk_by(|one, next| one == next).map(move |run| {
            let logs = begin..begin + run.len();
            begin = logs.end;
            Group { batch: &self.0, index: run[0] as usize, logs }
        })
    }

    /// Returns true if every value is UTF-8. One pass checks all values. If false, a stage must check each value,
    /// which is slower.
    pub fn values_are_utf8(&self) -> bool {
        let values = &self.0.values;
        // The concatenation may be UTF-8 although a character begins in one value and ends in the next.
        is_ascii(values)
            || simdutf8::basic::from_utf8(values)
                .is_ok_and(|text| self.0.value_ends.iter().all(|&end| text.is_char_boundary(end as usize)))
    }
}

/// Returns true if all bytes are ASCII. Compiles to SIMD in wasm, unlike the standard library's `is_ascii`.
fn is_ascii(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<128>();
    let ascii = |bytes: &[u8]| bytes.iter().fold(0, |bits, byte| bits | byte).is_ascii();
    blocks.iter().all(|block| ascii(block)) && ascii(rest)
}

/// Returns true if `ends` is sorted and ends with `count`. Each element is one past the end of a run.
fn covers(ends: &[u32], count: usize) -> bool {
    // The loop has no early exit, so that it compiles to SIMD.
    let sorted =
        ends.iter().zip(ends.iter().skip(1)).fold(true, |sorted, (end, next)| sorted & (end <= next));
    sorted && ends.last().map_or(0, |&end| end as usize) == count
}

/// Returns true if every index is below `count`.
fn within(indices: &[u32], count: usize) -> bool {
    indices.is_empty() || (indices.iter().fold(0, |max, &index| max.max(index)) as usize) < count
}

/// A run of logs that share topic, source and tags.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    batch: &'a LogBatch,
    index: usize,
    logs: Range<usize>,
}

impl<'a> Group<'a> {
    /// Returns the group's index in the batch, for lookups in tables computed once per group. Several runs may
    /// share one group.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns `__topic__`; may be empty.
    pub fn topic(&self) -> &'a str {
        &self.raw().topic
    }

    /// Returns `__source__`; may be empty.
    pub fn source(&self) -> &'a str {
        &self.raw().source
    }

    /// Returns the tags, in order.
    pub fn tags(&self) -> &'a [Tag] {
        &self.raw().tags
    }

    /// Returns the tags with distinct keys, in order: of repeated ones only the last.
    pub fn distinct_tags(&self) -> Vec<&'a Tag> {
        distinct_tags(self.raw())
    }

    fn raw(&self) -> &'a LogGroup {
        &self.batch.groups[self.index]
    }

    /// Iterates over the logs, in order.
    pub fn logs(&self) -> impl Iterator<Item = Log<'a>> + use<'a> {
        let batch = self.batch;
        let mut first = run_start(&batch.field_ends, self.logs.start);
        self.logs.clone().map(move |index| {
            let fields = first..batch.field_ends[index] as usize;
            first = fields.end;
            Log { batch, index, fields }
        })
    }
}

/// Returns the tags of a group with distinct keys, in order: of repeated ones only the last.
pub fn distinct_tags(group: &LogGroup) -> Vec<&Tag> {
    let mut later = HashSet::new();
    let mut tags: Vec<_> = group.tags.iter().rev().filter(|tag| later.insert(&tag.key)).collect();
    tags.reverse();
    tags
}

/// One log.
#[derive(Debug, Clone)]
pub struct Log<'a> {
    batch: &'a LogBatch,
    index: usize,
    fields: Range<usize>,
}

impl<'a> Log<'a> {
    /// Returns the log's index in the batch.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns `__time__`, in Unix seconds.
    pub fn time(&self) -> u32 {
        self.batch.times[self.index]
    }

    /// Returns the nanoseconds within the second, if the batch has them.
    pub fn nanos(&self) -> Option<u32> {
        self.batch.nanos.get(self.index).copied()
    }

    /// Returns the log's range in the batch's fields, and the offset of its first value in the batch's values. For
    /// loops over the [`raw`](Batch::raw) columns.
    pub fn span(&self) -> (Range<usize>, usize) {
        (self.fields.clone(), run_start(&self.batch.value_ends, self.fields.start))
    }

    /// Iterates over the fields, in the log's order. Keys may repeat.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let batch = self.batch;
        let mut begin = run_start(&batch.value_ends, self.fields.start);
        let (keys, ends) = (&batch.field_keys[self.fields.clone()], &batch.value_ends[self.fields.clone()]);
        keys.iter().zip(ends).zip(self.fields.clone()).map(move |((&key, &end), index)| {
            let range = begin..end as usize;
            begin = range.end;
            Field { batch, index, key: key as usize, range }
        })
    }
}

/// One field of a log.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    batch: &'a LogBatch,
    index: usize,
    key: usize,
    range: Range<usize>,
}

impl<'a> Field<'a> {
    /// Returns the field's index among the batch's fields.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the key.
    pub fn key(&self) -> &'a str {
        &self.batch.keys[self.key]
    }

    /// Returns the key's index among the batch's keys, for lookups in tables computed once per key.
    pub fn key_index(&self) -> usize {
        self.key
    }

    /// Returns the value: usually text, but any bytes are possible.
    #[inline(always)]
    pub fn value(&self) -> &'a [u8] {
        &self.batch.values[self.range.clone()]
    }

    /// Returns the value's byte range in the batch's values.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// Returns the start of run `index`, given the (exclusive) ends of all runs.
pub(crate) fn run_start(ends: &[u32], index: usize) -> usize {
    index.checked_sub(1).map_or(0, |before| ends[before] as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    fn raw() -> LogBatch {
        let batch = BatchBuilder::new()
            .group("t", "s", &[])
            .log(1, &[("a", "1"), ("b", "2")])
            .log(2, &[])
            .group("u", "s", &[("k", "v")])
            .log(3, &[("a", "é")])
            .build();
        batch.raw().clone()
    }

    #[test]
    fn iterates_groups_logs_and_fields_in_order() {
        let batch = Batch::new(raw()).unwrap();
        let seen: Vec<_> = batch
            .groups()
            .flat_map(|group| {
                group.logs().map(move |log| {
                    let fields: Vec<_> = log.fields().map(|f| (f.key(), f.value().to_vec())).collect();
                    (group.topic(), log.index(), log.time(), fields)
                })
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("t", 0, 1, vec![("a", b"1".to_vec()), ("b", b"2".to_vec())]),
                ("t", 1, 2, vec![]),
                ("u", 2, 3, vec![("a", "é".as_bytes().to_vec())]),
            ]
        );
    }

    #[test]
    fn names_each_broken_invariant() {
        type Damage = fn(&mut LogBatch);
        let cases: [(&str, Damage); 9] = [
            ("differ in length", |raw| raw.times.push(1)),
            ("differ in length", |raw| raw.nanos.push(1)),
            ("differ in length", |raw| raw.field_keys.push(0)),
            ("differ in length", |raw| raw.log_groups.truncate(2)),
            ("index outside groups", |raw| raw.log_groups[1] = 2),
            ("field-ends do not cover", |raw| raw.field_ends[0] = 3),
            ("value-ends do not cover", |raw| raw.values.push(b'x')),
            ("index outside keys", |raw| raw.field_keys[0] = 2),
            ("second or more", |raw| raw.nanos = vec![0, 0, 1_000_000_000]),
        ];
        for (message, damage) in cases {
            let mut raw = raw();
            damage(&mut raw);
            let error = Batch::new(raw).unwrap_err().to_string();
            assert!(error.contains(message), "{error} should say {message}");
        }
    }

    #[test]
    fn character_across_two_values_is_not_utf8() {
        let e = "é".as_bytes();
        let builder = || BatchBuilder::new().group("", "", &[]);
        assert!(builder().log_bytes(1, &[("a", e), ("b", e)]).build().values_are_utf8());
        assert!(!builder().log_bytes(1, &[("a", &e[..1]), ("b", &e[1..])]).build().values_are_utf8());
        assert!(!builder().log_bytes(1, &[("a", b"\xff")]).build().values_are_utf8());
    }
}
