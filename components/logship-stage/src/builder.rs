use std::collections::HashMap;

use crate::{Batch, LogBatch, LogGroup, Tag};

/// Builds a [`Batch`] by hand, for tests and benchmarks of a stage.
#[derive(Debug, Default)]
pub struct BatchBuilder(Columns);

#[derive(Debug, Default)]
struct Columns {
    groups: Vec<LogGroup>,
    keys: Vec<String>,
    key_indices: HashMap<String, u32>,
    times: Vec<u32>,
    nanos: Vec<u32>,
    log_groups: Vec<u32>,
    /// Index of the group that new logs belong to.
    group: u32,
    field_ends: Vec<u32>,
    field_keys: Vec<u32>,
    value_ends: Vec<u32>,
    values: Vec<u8>,
}

impl BatchBuilder {
    /// Returns an empty builder, without groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a group for the logs that follow.
    pub fn group(mut self, topic: &str, source: &str, tags: &[(&str, &str)]) -> Self {
        let tags = tags.iter().map(|&(key, value)| Tag { key: key.into(), value: value.into() }).collect();
        self.0.groups.push(LogGroup { topic: topic.into(), source: source.into(), tags });
        self.0.group = self.0.groups.len() as u32 - 1;
        self
    }

    /// Adds a log to the last group.
    pub fn log(self, time: u32, fields: &[(&str, &str)]) -> Self {
        let fields: Vec<_> = fields.iter().map(|&(key, value)| (key, value.as_bytes())).collect();
        self.log_bytes(time, &fields)
    }

    /// Adds a log with arbitrary bytes as values to the last group. Creates an unnamed group if there is no group.
    pub fn log_bytes(mut self, time: u32, fields: &[(&str, &[u8])]) -> Self {
        if self.0.groups.is_empty() {
            self = self.group("", "", &[]);
        }
        let raw = &mut self.0;
        for &(key, value) in fields {
            let keys = &mut raw.keys;
            let index = *raw.key_indices.entry(key.to_owned()).or_insert_with_key(|key| {
                keys.push(key.clone());
                keys.len() as u32 - 1
            });
            raw.field_keys.push(index);
            raw.values.extend_from_slice(value);
            raw.value_ends.push(raw.values.len() as u32);
        }
        raw.times.push(time);
        raw.log_groups.push(raw.group);
        raw.field_ends.push(raw.field_keys.len() as u32);
        self
    }

    /// Sets the nanoseconds of the last log, and 0 for earlier logs without nanoseconds.
    pub fn nanos(mut self, nanos: u32) -> Self {
        self.0.nanos.resize(self.0.times.len().saturating_sub(1), 0);
        self.0.nanos.push(nanos);
        self
    }

    /// Returns the batch.
    pub fn build(mut self) -> Batch {
        if !self.0.nanos.is_empty() {
            self.0.nanos.resize(self.0.times.len(), 0);
        }
        let Columns {
            groups,
            keys,
            times,
            nanos,
            log_groups,
            field_ends,
            field_keys,
            value_ends,
            values,
            ..
        } = self.0;
        let raw =
            LogBatch { groups, keys, times, nanos, log_groups, field_ends, field_keys, value_ends, values };
        Batch::new(raw).expect("the builder keeps the invariants")
    }
}
