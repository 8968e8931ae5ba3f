use std::collections::HashMap;
use std::ops::Range;

use crate::batch::run_start;
use crate::transform::Transformed;
use crate::{Batch, Field, Log, LogBatch, LogGroup, Output};

/// Derives a batch from another one: copies, adds or filters logs and fields.
///
/// The output keeps the input's dictionaries of keys and groups, so that indices are copied unchanged. Adjacent
/// fields or logs that stay adjacent are copied at once. A log needs no allocation of its own.
///
/// ```
/// use logship_stage::{BatchBuilder, BatchWriter};
///
/// let batch = BatchBuilder::new().log(7, &[("user", "ann"), ("path", "/")]).build();
/// let mut writer = BatchWriter::of(&batch);
/// let user = writer.key("user");
/// for log in batch.groups().flat_map(|group| group.logs()) {
///     for field in log.fields() {
///         match field.key() {
///             "user" => writer.field(user, b"***"),
///             _ => writer.copy_field(&field),
///         }
///     }
///     writer.end_log(&log);
/// }
/// let transformed = writer.finish();
/// assert_eq!(transformed.batch.values, b"***/");
/// assert!(transformed.logs.is_empty(), "one output log for each input log");
/// ```
#[derive(Debug)]
pub struct BatchWriter<'a> {
    from: &'a LogBatch,
    keys: Vec<String>,
    /// The index of each key in `keys`; filled on the first lookup.
    key_indices: HashMap<String, u32>,
    /// For each key, the key that followed it in the last log: a prediction. The first element is a log's first key.
    followers: Vec<u32>,
    /// The index in `followers` of the last key's follower.
    last: usize,
    /// The new index of each key of `from`; empty while all are unchanged.
    new_keys: Vec<u32>,
    /// The replacement of each group of `from`, if any; empty while all are unchanged.
    regrouped: Vec<Option<LogGroup>>,
    field_ends: Vec<u32>,
    field_keys: Vec<u32>,
    value_ends: Vec<u32>,
    values: Output,
    /// Values of `from` to append to `values`. Not copied yet, because adjacent values may follow.
    pending: Range<usize>,
    /// The indices in `from` of the logs written.
    logs: Vec<u32>,
}

impl<'a> BatchWriter<'a> {
    /// Creates an empty batch with the keys and groups of `batch`, and with its capacity.
    pub fn of(batch: &'a Batch) -> Self {
        let from = batch.raw();
        Self {
            from,
            keys: from.keys.clone(),
            key_indices: HashMap::new(),
            followers: vec![],
            last: 0,
            new_keys: vec![],
            regrouped: vec![],
            field_ends: Vec::with_capacity(from.times.len()),
            field_keys: Vec::with_capacity(from.field_keys.len()),
            value_ends: Vec::with_capacity(from.field_keys.len()),
            values: Output::with_capacity(from.values.len()),
            pending: 0..0,
            logs: Vec::with_capacity(from.times.len()),
        }
    }

    /// Returns the index of a key for [`field`](Self::field). Adds the key if it is new.
    pub fn key(&mut self, key: &str) -> u32 {
        let guess = self.followers.get(self.last).copied().unwrap_or(0);
        let index = match self.keys.get(guess as usize) {
            Some(guessed) if guessed == key => guess,
            _ => self.look_up(key),
        };
        self.last = index as usize + 1;
        index
    }

    #[cold]
    fn look_up(&mut self, key: &str) -> u32 {
        if self.key_indices.is_empty() {
            self.key_indices = self.keys.iter().cloned().zip(0..).collect();
        }
        let index = match self.key_indices.get(key) {
            Some(&index) => index,
            None => {
                let index = self.keys.len() as u32;
                self.keys.push(key.to_owned());
                self.key_indices.insert(key.to_owned(), index);
                index
            }
        };
        self.followers.resize(self.keys.len() + 1, 0);
        self.followers[self.last] = index;
        index
    }

    /// Renames a key of the batch, given by its [index](Field::key_index), in all fields copied from now on.
    pub fn rename(&mut self, key: usize, name: &str) {
        let index = self.key(name);
        if self.new_keys.is_empty() {
            self.new_keys = (0..self.from.keys.len() as u32).collect();
        }
        self.new_keys[key] = index;
    }

    /// Replaces a group of the batch, given by its [index](crate::Group::index), for all its logs, including those
    /// already written. Several groups may become the same group.
    pub fn regroup(&mut self, group: usize, to: LogGroup) {
        self.regrouped.resize(self.from.groups.len(), None);
        self.regrouped[group] = Some(to);
    }

    /// Copies logs of the batch with all their fields, by their indices.
    pub fn copy_logs(&mut self, logs: Range<usize>) {
        let from = self.from;
        let fields = run_start(&from.field_ends, logs.start)..run_start(&from.field_ends, logs.end);
        let shift = (self.field_keys.len() as u32).wrapping_sub(fields.start as u32);
        self.copy_fields(fields);
        self.field_ends.extend(from.field_ends[logs.clone()].iter().map(|end| end.wrapping_add(shift)));
        self.logs.extend(logs.start as u32..logs.end as u32);
    }

    /// Copies fields of the batch, by their [indices](Field::index), to the current log. [`end_log`](Self::end_log)
    /// ends it.
    #[inline]
    pub fn copy_fields(&mut self, fields: Range<usize>) {
        let from = self.from;
        let values = run_start(&from.value_ends, fields.start)..run_start(&from.value_ends, fields.end);
        if self.pending.end != values.start {
            self.copy_pending();
            self.pending = values.start..values.start;
        }
        let offset = self.values.len() + self.pending.len();
        self.pending.end = values.end;
        let shift = (offset as u32).wrapping_sub(values.start as u32);
        self.value_ends.extend(from.value_ends[fields.clone()].iter().map(|end| end.wrapping_add(shift)));
        let keys = &from.field_keys[fields];
        if self.new_keys.is_empty() {
            self.field_keys.extend_from_slice(keys);
        } else {
            self.field_keys.extend(keys.iter().map(|&key| self.new_keys[key as usize]));
        }
    }

    /// Copies a field of the batch.
    #[inline]
    pub fn copy_field(&mut self, field: &Field<'_>) {
        self.copy_fields(field.index()..field.index() + 1);
    }

    /// Adds a new field. `key` is an index from [`key`](Self::key).
    #[inline]
    pub fn field(&mut self, key: u32, value: &[u8]) {
        self.copy_pending();
        self.values.push_value(value);
        self.field_keys.push(key);
        self.value_ends.push(self.values.len() as u32);
    }

    /// Ends the current log. It gets the time and the group of `log`.
    #[inline]
    pub fn end_log(&mut self, log: &Log<'_>) {
        self.end(log.index());
    }

    /// Ends the current log as [`end_log`](Self::end_log) does. `log` is the index of a log of the batch.
    #[inline]
    pub fn end(&mut self, log: usize) {
        self.field_ends.push(self.field_keys.len() as u32);
        self.logs.push(log as u32);
        self.last = 0;
    }

    /// Drops the current log and its fields.
    pub fn drop_log(&mut self) {
        self.copy_pending();
        let fields = run_start(&self.field_ends, self.field_ends.len());
        self.field_keys.truncate(fields);
        self.value_ends.truncate(fields);
        self.values.truncate(run_start(&self.value_ends, fields));
        self.last = 0;
    }

    #[inline]
    fn copy_pending(&mut self) {
        if !self.pending.is_empty() {
            self.values.push_range(&self.from.values, self.pending.clone());
        }
        self.pending = 0..0;
    }

    /// Returns the batch and the indices of its logs in the input.
    pub fn finish(mut self) -> Transformed {
        self.copy_pending();
        let (groups, log_groups) = self.take_groups();
        let Self { from, logs, .. } = self;
        let of = |column: &[u32]| logs.iter().map(|&log| column[log as usize]).collect::<Vec<u32>>();
        let mut nanos = if from.nanos.is_empty() { vec![] } else { of(&from.nanos) };
        // Omitted if no remaining log has nanoseconds: the output must not depend on the filtered logs.
        if nanos.iter().all(|&nanos| nanos == 0) {
            nanos.clear();
        }
        let is_unchanged =
            logs.len() == from.times.len() && logs.iter().zip(0..).all(|(&log, index)| log == index);
        let batch = LogBatch {
            groups,
            keys: self.keys,
            times: of(&from.times),
            nanos,
            log_groups,
            field_ends: self.field_ends,
            field_keys: self.field_keys,
            value_ends: self.value_ends,
            values: self.values.into_bytes(),
        };
        Transformed { batch, logs: if is_unchanged { vec![] } else { logs } }
    }

    /// Returns the groups, and for each log the index of its group.
    fn take_groups(&mut self) -> (Vec<LogGroup>, Vec<u32>) {
        let from = self.from;
        let mut log_groups: Vec<u32> = self.logs.iter().map(|&log| from.log_groups[log as usize]).collect();
        if self.regrouped.is_empty() {
            return (from.groups.clone(), log_groups);
        }
        // Only groups with logs: the original of a replaced group may be confidential.
        let (mut groups, mut key_indices) = (vec![], HashMap::new());
        let mut new_groups: Vec<Option<u32>> = vec![None; from.groups.len()];
        for log_group in &mut log_groups {
            let group = *log_group as usize;
            *log_group = *new_groups[group].get_or_insert_with(|| {
                let to = self.regrouped[group].take().unwrap_or_else(|| from.groups[group].clone());
                *key_indices.entry(to).or_insert_with_key(|to| {
                    groups.push(to.clone());
                    groups.len() as u32 - 1
                })
            });
        }
        (groups, log_groups)
    }
}

impl Transformed {
    /// Returns the input batch unchanged, with all its logs.
    pub fn same(batch: Batch) -> Self {
        Self { batch: batch.into_raw(), logs: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    fn batch() -> Batch {
        BatchBuilder::new()
            .group("t", "10.0.0.1", &[])
            .log(1, &[("a", "1"), ("b", "a value of more than a block"), ("a", "2")])
            .log(2, &[])
            .group("t", "10.0.0.2", &[("k", "v")])
            .log(3, &[("c", ""), ("b", "é")])
            .nanos(7)
            .build()
    }

    /// Renders each log with its time, source, nanoseconds and fields.
    fn rendered(transformed: Transformed) -> Vec<String> {
        let batch = Batch::new(transformed.batch).unwrap();
        let log = |group: crate::Group<'_>| {
            let logs = group.logs().map(move |log| {
                let fields = log
                    .fields()
                    .map(|field| format!(" {}={}", field.key(), String::from_utf8_lossy(field.value())));
                let fields: String = fields.collect();
                format!("{} {} {}{fields}", log.time(), group.source(), log.nanos().unwrap_or(0))
            });
            logs.collect::<Vec<_>>()
        };
        batch.groups().flat_map(log).collect()
    }

    #[test]
    fn copying_all_logs_changes_nothing() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..3);
        let transformed = writer.finish();
        assert!(transformed.logs.is_empty());
        assert_eq!(rendered(transformed), rendered(Transformed::same(batch)));
    }

    #[test]
    fn filters_logs_with_their_nanoseconds() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(1..2);
        writer.copy_logs(2..3);
        let transformed = writer.finish();
        assert_eq!(transformed.logs, [1, 2]);
        assert_eq!(rendered(transformed), ["2 10.0.0.1 0", "3 10.0.0.2 7 c= b=é"]);
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..1);
        assert!(writer.finish().batch.nanos.is_empty(), "no remaining log has nanoseconds");
        let nothing = BatchWriter::of(&batch).finish();
        assert!(nothing.logs.is_empty() && Batch::new(nothing.batch).unwrap().is_empty());
    }

    #[test]
    fn copies_adds_renames_and_drops_fields() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        let new = writer.key("new");
        writer.rename(0, "b");
        writer.rename(2, "d");
        for log in batch.groups().flat_map(|group| group.logs()) {
            writer.field(new, b"before");
            log.fields().filter(|field| field.value() != b"1").for_each(|field| writer.copy_field(&field));
            writer.field(new, b"after");
            if log.index() == 1 {
                writer.drop_log();
            } else {
                writer.end_log(&log);
            }
        }
        let transformed = writer.finish();
        assert_eq!((transformed.batch.keys.len(), transformed.logs.clone()), (5, vec![0, 2]));
        assert_eq!(
            rendered(transformed),
            [
                "1 10.0.0.1 0 new=before b=a value of more than a block b=2 new=after",
                "3 10.0.0.2 7 new=before d= b=é new=after"
            ]
        );
    }

    #[test]
    fn splits_one_log_into_two() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        writer.copy_fields(0..1);
        writer.end(0);
        writer.copy_fields(1..3);
        writer.end(0);
        let transformed = writer.finish();
        assert_eq!(transformed.logs, [0, 0]);
        assert_eq!(
            rendered(transformed),
            ["1 10.0.0.1 0 a=1", "1 10.0.0.1 0 b=a value of more than a block a=2"]
        );
    }

    #[test]
    fn merges_equal_groups_and_drops_unused_groups() {
        let batch = batch();
        let hidden = || LogGroup { topic: "t".into(), source: String::new(), tags: vec![] };
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..3);
        writer.regroup(0, hidden());
        writer.regroup(1, hidden());
        let transformed = writer.finish().batch;
        assert_eq!((transformed.groups.len(), transformed.log_groups), (1, vec![0, 0, 0]));
    }

    #[test]
    fn finds_repeated_keys_in_any_order() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        let keys = ["x", "y", "a", "x", "c", "y", "x", "z", "x", "y"].map(|key| writer.key(key));
        assert_eq!(keys, [3, 4, 0, 3, 2, 4, 3, 5, 3, 4]);
        assert_eq!(writer.finish().batch.keys, ["a", "b", "c", "x", "y", "z"]);
    }
}
