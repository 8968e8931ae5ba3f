use std::collections::HashMap;
use std::ops::Range;

use crate::batch::first_of;
use crate::transform::Transformed;
use crate::{Batch, Field, Log, LogBatch, LogGroup, Output};

/// Makes a batch of another one: logs and fields are copied, added or left out.
///
/// Keys and groups stay the dictionaries that they are, so that what is copied is copied as it stands: neighbours
/// that come out as neighbours are one copy, whether they are fields of a log or whole logs. A log takes no memory
/// of its own.
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
/// let made = writer.finish();
/// assert_eq!(made.batch.values, b"***/");
/// assert!(made.logs.is_empty(), "all logs are there, one for each that went in");
/// ```
#[derive(Debug)]
pub struct BatchWriter<'a> {
    from: &'a LogBatch,
    keys: Vec<String>,
    /// Where a key that was looked up stands in `keys`; filled at the first look.
    known: HashMap<String, u32>,
    /// For each key, the one that was looked up behind it last time; the first element: the log's first.
    followers: Vec<u32>,
    /// Where the last key's follower stands in `followers`.
    last: usize,
    /// By key of `from`, what it is here; empty as long as each is the same.
    key_of: Vec<u32>,
    /// By group of `from`, what it is here, if another; empty as long as each is the same.
    regrouped: Vec<Option<LogGroup>>,
    field_ends: Vec<u32>,
    field_keys: Vec<u32>,
    value_ends: Vec<u32>,
    values: Output,
    /// Values of `from` that belong behind `values` and were not copied yet: their neighbours may follow.
    pending: Range<usize>,
    /// The logs of `from` that were written.
    logs: Vec<u32>,
}

impl<'a> BatchWriter<'a> {
    /// An empty batch with the keys and groups of `batch`, and room for as much as it has.
    pub fn of(batch: &'a Batch) -> Self {
        let from = batch.raw();
        Self {
            from,
            keys: from.keys.clone(),
            known: HashMap::new(),
            followers: vec![],
            last: 0,
            key_of: vec![],
            regrouped: vec![],
            field_ends: Vec::with_capacity(from.times.len()),
            field_keys: Vec::with_capacity(from.field_keys.len()),
            value_ends: Vec::with_capacity(from.field_keys.len()),
            values: Output::with_capacity(from.values.len()),
            pending: 0..0,
            logs: Vec::with_capacity(from.times.len()),
        }
    }

    /// The index of a key for [`field`](Self::field). It is added if there is none yet.
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
        if self.known.is_empty() {
            self.known = self.keys.iter().cloned().zip(0..).collect();
        }
        let index = match self.known.get(key) {
            Some(&index) => index,
            None => {
                let index = self.keys.len() as u32;
                self.keys.push(key.to_owned());
                self.known.insert(key.to_owned(), index);
                index
            }
        };
        self.followers.resize(self.keys.len() + 1, 0);
        self.followers[self.last] = index;
        index
    }

    /// Gives a key of the batch, by its [index](Field::key_index), another name in all that is copied from now on.
    pub fn rename(&mut self, key: usize, name: &str) {
        let index = self.key(name);
        if self.key_of.is_empty() {
            self.key_of = (0..self.from.keys.len() as u32).collect();
        }
        self.key_of[key] = index;
    }

    /// Has the logs of a group of the batch, by its [index](crate::Group::index), be in another one, also those that
    /// were written before. Several may become the same.
    pub fn regroup(&mut self, group: usize, to: LogGroup) {
        self.regrouped.resize(self.from.groups.len(), None);
        self.regrouped[group] = Some(to);
    }

    /// Copies whole logs of the batch, by their indices.
    pub fn copy_logs(&mut self, logs: Range<usize>) {
        let from = self.from;
        let fields = first_of(&from.field_ends, logs.start)..first_of(&from.field_ends, logs.end);
        let shift = (self.field_keys.len() as u32).wrapping_sub(fields.start as u32);
        self.copy_fields(fields);
        self.field_ends.extend(from.field_ends[logs.clone()].iter().map(|end| end.wrapping_add(shift)));
        self.logs.extend(logs.start as u32..logs.end as u32);
    }

    /// Copies fields of the batch, by their [indices](Field::index), to the log that the next
    /// [`end_log`](Self::end_log) ends.
    #[inline]
    pub fn copy_fields(&mut self, fields: Range<usize>) {
        let from = self.from;
        let values = first_of(&from.value_ends, fields.start)..first_of(&from.value_ends, fields.end);
        if self.pending.end != values.start {
            self.copy_pending();
            self.pending = values.start..values.start;
        }
        let place = self.values.len() + self.pending.len();
        self.pending.end = values.end;
        let shift = (place as u32).wrapping_sub(values.start as u32);
        self.value_ends.extend(from.value_ends[fields.clone()].iter().map(|end| end.wrapping_add(shift)));
        let keys = &from.field_keys[fields];
        if self.key_of.is_empty() {
            self.field_keys.extend_from_slice(keys);
        } else {
            self.field_keys.extend(keys.iter().map(|&key| self.key_of[key as usize]));
        }
    }

    /// Copies a field of the batch.
    #[inline]
    pub fn copy_field(&mut self, field: &Field<'_>) {
        self.copy_fields(field.index()..field.index() + 1);
    }

    /// Adds a field that the batch does not have. `key` is an index that [`key`](Self::key) gave.
    #[inline]
    pub fn field(&mut self, key: u32, value: &[u8]) {
        self.copy_pending();
        self.values.push_value(value);
        self.field_keys.push(key);
        self.value_ends.push(self.values.len() as u32);
    }

    /// Ends a log with the fields since the last one: its time and its group are those of `log`.
    #[inline]
    pub fn end_log(&mut self, log: &Log<'_>) {
        self.end(log.index());
    }

    /// As [`end_log`](Self::end_log), with the index of a log of the batch.
    #[inline]
    pub fn end(&mut self, log: usize) {
        self.field_ends.push(self.field_keys.len() as u32);
        self.logs.push(log as u32);
        self.last = 0;
    }

    /// Leaves out the fields since the last log.
    pub fn drop_log(&mut self) {
        self.copy_pending();
        let fields = first_of(&self.field_ends, self.field_ends.len());
        self.field_keys.truncate(fields);
        self.value_ends.truncate(fields);
        self.values.truncate(first_of(&self.value_ends, fields));
        self.last = 0;
    }

    #[inline]
    fn copy_pending(&mut self) {
        if !self.pending.is_empty() {
            self.values.push_range(&self.from.values, self.pending.clone());
        }
        self.pending = 0..0;
    }

    /// The batch, and which logs these are.
    pub fn finish(mut self) -> Transformed {
        self.copy_pending();
        let (groups, log_groups) = self.take_groups();
        let Self { from, logs, .. } = self;
        let of = |column: &[u32]| logs.iter().map(|&log| column[log as usize]).collect::<Vec<u32>>();
        let mut nanos = if from.nanos.is_empty() { vec![] } else { of(&from.nanos) };
        // None where none of these has any, as if the others had never been beside them.
        if nanos.iter().all(|&nanos| nanos == 0) {
            nanos.clear();
        }
        let is_whole =
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
        Transformed { batch, logs: if is_whole { vec![] } else { logs } }
    }

    /// The groups, and for each log the index of its group.
    fn take_groups(&mut self) -> (Vec<LogGroup>, Vec<u32>) {
        let from = self.from;
        let mut log_groups: Vec<u32> = self.logs.iter().map(|&log| from.log_groups[log as usize]).collect();
        if self.regrouped.is_empty() {
            return (from.groups.clone(), log_groups);
        }
        // Only those that a log has: what a group was before may be what nobody is to see.
        let (mut groups, mut known) = (vec![], HashMap::new());
        let mut places: Vec<Option<u32>> = vec![None; from.groups.len()];
        for log_group in &mut log_groups {
            let group = *log_group as usize;
            *log_group = *places[group].get_or_insert_with(|| {
                let to = self.regrouped[group].take().unwrap_or_else(|| from.groups[group].clone());
                *known.entry(to).or_insert_with_key(|to| {
                    groups.push(to.clone());
                    groups.len() as u32 - 1
                })
            });
        }
        (groups, log_groups)
    }
}

impl Transformed {
    /// The batch as it came: no log is another, and none was left out.
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

    /// Each log with its time, group and fields.
    fn told(made: Transformed) -> Vec<String> {
        let batch = Batch::new(made.batch).unwrap();
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
    fn what_is_copied_whole_is_the_same() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..3);
        let made = writer.finish();
        assert!(made.logs.is_empty());
        assert_eq!(told(made), told(Transformed::same(batch)));
    }

    #[test]
    fn logs_are_left_out_and_nanoseconds_with_them() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(1..2);
        writer.copy_logs(2..3);
        let made = writer.finish();
        assert_eq!(made.logs, [1, 2]);
        assert_eq!(told(made), ["2 10.0.0.1 0", "3 10.0.0.2 7 c= b=é"]);
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..1);
        assert!(writer.finish().batch.nanos.is_empty(), "no log that is left has any");
        let nothing = BatchWriter::of(&batch).finish();
        assert!(nothing.logs.is_empty() && Batch::new(nothing.batch).unwrap().is_empty());
    }

    #[test]
    fn fields_are_copied_added_renamed_and_taken_back() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        let new = writer.key("new");
        writer.rename(0, "b");
        writer.rename(2, "d");
        for log in batch.groups().flat_map(|group| group.logs()) {
            writer.field(new, b"before");
            log.fields().filter(|field| field.value() != b"1").for_each(|field| writer.copy_field(&field));
            writer.field(new, b"behind");
            if log.index() == 1 {
                writer.drop_log();
            } else {
                writer.end_log(&log);
            }
        }
        let made = writer.finish();
        assert_eq!((made.batch.keys.len(), made.logs.clone()), (5, vec![0, 2]));
        assert_eq!(
            told(made),
            [
                "1 10.0.0.1 0 new=before b=a value of more than a block b=2 new=behind",
                "3 10.0.0.2 7 new=before d= b=é new=behind"
            ]
        );
    }

    #[test]
    fn one_log_may_become_two() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        writer.copy_fields(0..1);
        writer.end(0);
        writer.copy_fields(1..3);
        writer.end(0);
        let made = writer.finish();
        assert_eq!(made.logs, [0, 0]);
        assert_eq!(told(made), ["1 10.0.0.1 0 a=1", "1 10.0.0.1 0 b=a value of more than a block a=2"]);
    }

    #[test]
    fn groups_that_become_the_same_are_one_and_the_others_are_gone() {
        let batch = batch();
        let hidden = || LogGroup { topic: "t".into(), source: String::new(), tags: vec![] };
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..3);
        writer.regroup(0, hidden());
        writer.regroup(1, hidden());
        let made = writer.finish().batch;
        assert_eq!((made.groups.len(), made.log_groups), (1, vec![0, 0, 0]));
    }

    #[test]
    fn keys_that_come_again_in_another_order_are_the_same() {
        let batch = batch();
        let mut writer = BatchWriter::of(&batch);
        let keys = ["x", "y", "a", "x", "c", "y", "x", "z", "x", "y"].map(|key| writer.key(key));
        assert_eq!(keys, [3, 4, 0, 3, 2, 4, 3, 5, 3, 4]);
        assert_eq!(writer.finish().batch.keys, ["a", "b", "c", "x", "y", "z"]);
    }
}
