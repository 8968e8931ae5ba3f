//! Divides a batch into several.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::batch::empty;
use crate::types::LogBatch;

impl LogBatch {
    /// Splits the batch by shard, given the shard of each log. Returns only shards that have logs.
    pub fn split(self, shard_of: &[u32]) -> Vec<(u32, Self)> {
        let Some(&first) = shard_of.first() else { return vec![] };
        if shard_of.iter().all(|&shard| shard == first) {
            return vec![(first, self)];
        }
        let mut parts: BTreeMap<u32, Self> = BTreeMap::new();
        for (log, &shard) in shard_of.iter().enumerate() {
            parts.entry(shard).or_insert_with(empty).push_from(&self, log);
        }
        parts.values_mut().for_each(|part| part.take_dictionaries_of(&self));
        parts.into_iter().collect()
    }

    /// Returns the logs in a range as a batch of their own.
    pub fn slice(&self, logs: Range<usize>) -> Self {
        let fields = self.fields(logs.clone());
        let values = self.value_range(fields.clone());
        let from = |ends: &[u32], start: usize| ends.iter().map(|end| end - start as u32).collect();
        let mut slice = Self {
            times: self.times[logs.clone()].to_vec(),
            // Empty if none of these logs has nanoseconds: the bytes of an object must not depend on logs outside
            // its range.
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
            ..empty()
        };
        slice.take_dictionaries_of(self);
        slice
    }

    /// Returns the logs at these ascending indices as a batch of their own, independent of all other logs.
    pub fn select(&self, logs: &[u32]) -> Self {
        let mut selected = empty();
        selected.reserve_for(logs.len(), self);
        for run in logs.chunk_by(|log, next| log + 1 == *next) {
            let first = run[0] as usize;
            selected.append_from(self, first..first + run.len());
        }
        if selected.nanos.iter().all(|&nanos| nanos == 0) {
            selected.nanos.clear();
        }
        selected.take_dictionaries_of(self);
        selected
    }

    /// Gives columns with the indices of another batch its groups and keys: all of them, or only those in use if most
    /// are not. A batch of many keys may be cut into many parts, and each part crosses into stages with its keys.
    pub(crate) fn take_dictionaries_of(&mut self, other: &Self) {
        if other.keys.len() > self.field_keys.len() {
            self.keys = used(&other.keys, &mut self.field_keys);
        } else {
            self.keys.clone_from(&other.keys);
        }
        if other.groups.len() > self.log_groups.len() {
            self.groups = used(&other.groups, &mut self.log_groups);
        } else {
            self.groups.clone_from(&other.groups);
        }
    }

    /// Reserves capacity for a number of average logs of another batch.
    fn reserve_for(&mut self, logs: usize, other: &Self) {
        let share = |total: usize| total * logs / other.len().max(1);
        for column in [&mut self.times, &mut self.log_groups, &mut self.field_ends] {
            column.reserve(logs);
        }
        for column in [&mut self.field_keys, &mut self.value_ends] {
            column.reserve(share(other.field_keys.len()));
        }
        self.values.reserve(share(other.values.len()));
    }

    /// Appends a log from a batch with the same groups and keys.
    fn push_from(&mut self, other: &Self, log: usize) {
        let fields = other.fields(log..log + 1);
        let values = other.value_range(fields.clone());
        self.times.push(other.times[log]);
        self.nanos.extend(other.nanos.get(log));
        self.log_groups.push(other.log_groups[log]);
        self.field_keys.extend_from_slice(&other.field_keys[fields.clone()]);
        self.field_ends.push(self.field_keys.len() as u32);
        let begin = self.values.len() as u32;
        self.value_ends.extend(other.value_ends[fields].iter().map(|end| end - values.start as u32 + begin));
        self.values.extend_from_slice(&other.values[values]);
    }

    /// Appends logs from a batch with the same groups and keys.
    fn append_from(&mut self, other: &Self, logs: Range<usize>) {
        let fields = other.fields(logs.clone());
        let values = other.value_range(fields.clone());
        let (field, value) = (self.field_keys.len() as u32, self.values.len() as u32);
        self.times.extend_from_slice(&other.times[logs.clone()]);
        self.nanos.extend_from_slice(other.nanos.get(logs.clone()).unwrap_or_default());
        self.log_groups.extend_from_slice(&other.log_groups[logs.clone()]);
        self.field_keys.extend_from_slice(&other.field_keys[fields.clone()]);
        let shifted = |end: &u32, from: usize, to: u32| end - from as u32 + to;
        let ends = other.field_ends[logs].iter();
        self.field_ends.extend(ends.map(|end| shifted(end, fields.start, field)));
        let ends = other.value_ends[fields].iter();
        self.value_ends.extend(ends.map(|end| shifted(end, values.start, value)));
        self.values.extend_from_slice(&other.values[values]);
    }
}

/// Returns the items that the indices refer to, in the order of their first use, and makes the indices refer to those.
fn used<T: Clone>(items: &[T], indices: &mut [u32]) -> Vec<T> {
    let (mut new, mut used) = (vec![u32::MAX; items.len()], vec![]);
    for index in indices {
        let place = &mut new[*index as usize];
        if *place == u32::MAX {
            *place = used.len() as u32;
            used.push(items[*index as usize].clone());
        }
        *index = *place;
    }
    used
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::batch::BatchBuilder;
    use crate::types::{LogBatch, LogGroup};

    /// Builds a log from each element: time, nanoseconds, number of fields.
    fn batch(logs: &[(u32, u32, u8)]) -> LogBatch {
        let mut builder = BatchBuilder::default();
        for &(time, nanos, fields) in logs {
            let topic = format!("{}", time % 3);
            let group = builder.group(&LogGroup { topic, source: String::new(), tags: vec![] });
            for field in 0..fields {
                builder.field(&format!("key{field}"), format!("{time} {field}").as_bytes());
            }
            builder.end_log(group, time, nanos);
        }
        builder.take()
    }

    /// Returns the whole content of a log.
    fn log(batch: &LogBatch, log: usize) -> (u32, u32, String, Vec<(String, Vec<u8>)>) {
        let fields = batch.log_fields(log).map(|(key, value)| (key.to_owned(), value.to_owned()));
        let topic = batch.groups[batch.log_groups[log] as usize].topic.clone();
        (batch.times[log], batch.nanos.get(log).copied().unwrap_or(0), topic, fields.collect())
    }

    #[test]
    fn select_is_independent_of_other_logs() {
        let all = batch(&[(1, 0, 2), (2, 5, 0), (3, 0, 1), (4, 0, 3)]);
        let selected = all.select(&[0, 2, 3]);
        assert!(selected.nanos.is_empty(), "none of these logs has nanoseconds");
        assert_eq!(all.select(&[1, 3]).nanos, [5, 0]);
        assert_eq!(all.select(&[]).len(), 0);
        let slice = all.slice(2..4);
        assert_eq!((slice.values, slice.field_ends), {
            let selected = all.select(&[2, 3]);
            (selected.values, selected.field_ends)
        });
    }

    #[test]
    fn parts_have_only_the_keys_and_groups_in_use() {
        let mut builder = BatchBuilder::default();
        for log in 0..500 {
            let topic = format!("t{log}");
            let group = builder.group(&LogGroup { topic, source: String::new(), tags: vec![] });
            builder.field(&format!("key{log}"), b"v");
            builder.end_log(group, log, 0);
        }
        let all = builder.take();
        let sizes = |batch: &LogBatch| (batch.keys.len(), batch.groups.len());
        assert_eq!(sizes(&all.select(&[3, 400])), (2, 2));
        assert_eq!(sizes(&all.slice(7..10)), (3, 3));
        assert_eq!(log(&all.slice(7..10), 2), log(&all, 9));
        let shards: Vec<u32> = (0..500).map(|log| log % 250).collect();
        let parts = all.split(&shards);
        // The work of a cut grows with the logs, and not with the parts times the keys.
        assert!(parts.iter().all(|(_, part)| sizes(part) == (2, 2) && part.check() == Ok(())));
    }

    proptest! {
        #[test]
        fn select_keeps_whole_logs(
            logs in prop::collection::vec((any::<u32>(), 0..3_u32, 0..4_u8), 0..40),
            chosen in prop::collection::vec(any::<bool>(), 40),
        ) {
            let all = batch(&logs);
            let indices: Vec<u32> = (0..logs.len() as u32).filter(|&log| chosen[log as usize]).collect();
            let selected = all.select(&indices);
            prop_assert_eq!(selected.check(), Ok(()));
            prop_assert_eq!(selected.len(), indices.len());
            for (index, &log_index) in indices.iter().enumerate() {
                prop_assert_eq!(log(&selected, index), log(&all, log_index as usize));
            }
        }
    }
}
