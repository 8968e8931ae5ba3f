//! Batches that become several.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::batch::empty;
use crate::types::LogBatch;

impl LogBatch {
    /// The batches of the shards that have logs, given the shard of each log.
    pub fn split(self, shard_of: &[u32]) -> Vec<(u32, Self)> {
        let Some(&first) = shard_of.first() else { return vec![] };
        if shard_of.iter().all(|&shard| shard == first) {
            return vec![(first, self)];
        }
        let mut parts: BTreeMap<u32, Self> = BTreeMap::new();
        for (log, &shard) in shard_of.iter().enumerate() {
            parts.entry(shard).or_insert_with(|| self.without_logs()).push_from(&self, log);
        }
        parts.into_iter().collect()
    }

    /// The logs of these numbers, which rise, as a batch of its own: as if the others had never been beside them.
    pub fn pick(&self, logs: &[u32]) -> Self {
        let mut picked = self.without_logs();
        picked.make_room_for(logs.len(), self);
        for run in logs.chunk_by(|log, next| log + 1 == *next) {
            let first = run[0] as usize;
            picked.append_from(self, first..first + run.len());
        }
        if picked.nanos.iter().all(|&nanos| nanos == 0) {
            picked.nanos.clear();
        }
        picked
    }

    /// One that has the same groups and keys.
    fn without_logs(&self) -> Self {
        Self { groups: self.groups.clone(), keys: self.keys.clone(), ..empty() }
    }

    /// Takes room for so many logs of another batch, as they are on average.
    fn make_room_for(&mut self, logs: usize, other: &Self) {
        let share = |of_all: usize| of_all * logs / other.len().max(1);
        for column in [&mut self.times, &mut self.log_groups, &mut self.field_ends] {
            column.reserve(logs);
        }
        for column in [&mut self.field_keys, &mut self.value_ends] {
            column.reserve(share(other.field_keys.len()));
        }
        self.values.reserve(share(other.values.len()));
    }

    /// Appends a log of a batch that has the same groups and keys.
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

    /// Appends logs of a batch that has the same groups and keys.
    fn append_from(&mut self, other: &Self, logs: Range<usize>) {
        let fields = other.fields(logs.clone());
        let values = other.value_range(fields.clone());
        let (field, value) = (self.field_keys.len() as u32, self.values.len() as u32);
        self.times.extend_from_slice(&other.times[logs.clone()]);
        self.nanos.extend_from_slice(other.nanos.get(logs.clone()).unwrap_or_default());
        self.log_groups.extend_from_slice(&other.log_groups[logs.clone()]);
        self.field_keys.extend_from_slice(&other.field_keys[fields.clone()]);
        let moved = |end: &u32, from: usize, to: u32| end - from as u32 + to;
        let ends = other.field_ends[logs].iter();
        self.field_ends.extend(ends.map(|end| moved(end, fields.start, field)));
        let ends = other.value_ends[fields].iter();
        self.value_ends.extend(ends.map(|end| moved(end, values.start, value)));
        self.values.extend_from_slice(&other.values[values]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::batch::BatchBuilder;
    use crate::types::{LogBatch, LogGroup};

    /// A log for each element: its time, its nanoseconds, and so many fields.
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

    /// All that a log says.
    fn log(batch: &LogBatch, log: usize) -> (u32, u32, String, Vec<(String, Vec<u8>)>) {
        let fields = batch.log_fields(log).map(|(key, value)| (key.to_owned(), value.to_owned()));
        let topic = batch.groups[batch.log_groups[log] as usize].topic.clone();
        (batch.times[log], batch.nanos.get(log).copied().unwrap_or(0), topic, fields.collect())
    }

    #[test]
    fn what_is_picked_does_not_show_what_was_beside_it() {
        let whole = batch(&[(1, 0, 2), (2, 5, 0), (3, 0, 1), (4, 0, 3)]);
        let picked = whole.pick(&[0, 2, 3]);
        assert!(picked.nanos.is_empty(), "none of these has any");
        assert_eq!(whole.pick(&[1, 3]).nanos, [5, 0]);
        assert_eq!(whole.pick(&[]).len(), 0);
        let slice = whole.slice(2..4);
        assert_eq!((slice.values, slice.field_ends), {
            let picked = whole.pick(&[2, 3]);
            (picked.values, picked.field_ends)
        });
    }

    proptest! {
        #[test]
        fn what_is_picked_is_whole(
            logs in prop::collection::vec((any::<u32>(), 0..3_u32, 0..4_u8), 0..40),
            taken in prop::collection::vec(any::<bool>(), 40),
        ) {
            let whole = batch(&logs);
            let numbers: Vec<u32> = (0..logs.len() as u32).filter(|&log| taken[log as usize]).collect();
            let picked = whole.pick(&numbers);
            prop_assert_eq!(picked.check(), Ok(()));
            prop_assert_eq!(picked.len(), numbers.len());
            for (index, &number) in numbers.iter().enumerate() {
                prop_assert_eq!(log(&picked, index), log(&whole, number as usize));
            }
        }
    }
}
