//! The logs of a batch: their invariants, which a stage checks, and their fields one after the other.

use crate::logship::batch::types::LogBatch;

/// What of its invariants a batch breaks, in words.
pub fn broken(batch: &LogBatch) -> Option<&'static str> {
    let (logs, fields) = (batch.times.len(), batch.field_keys.len());
    let covers = |ends: &[u32], total: usize| {
        ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == total
    };
    let within =
        |indices: &[u32], count: usize| indices.iter().all(|&index| (index as usize) < count);
    if batch.log_groups.len() != logs || batch.field_ends.len() != logs {
        return Some("log-groups or field-ends has not one element a log");
    }
    if !(batch.nanos.is_empty()
        || batch.nanos.len() == logs && batch.nanos.iter().all(|&nanos| nanos < 1_000_000_000))
    {
        return Some("nanos has not one element below 1,000,000,000 a log");
    }
    if batch.value_ends.len() != fields {
        return Some("value-ends has not one element a field");
    }
    if !covers(&batch.field_ends, fields) || !covers(&batch.value_ends, batch.values.len()) {
        return Some("field-ends or value-ends falls, or does not cover all");
    }
    if !within(&batch.log_groups, batch.groups.len())
        || !within(&batch.field_keys, batch.keys.len())
    {
        return Some("log-groups or field-keys has an index outside");
    }
    None
}

/// The fields of a log, in their order: the index of the key, and the value.
pub fn fields(batch: &LogBatch, log: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let before = |ends: &[u32], index: usize| {
        if index == 0 {
            0
        } else {
            ends[index - 1] as usize
        }
    };
    let fields = before(&batch.field_ends, log)..batch.field_ends[log] as usize;
    fields.map(move |field| {
        let value = before(&batch.value_ends, field)..batch.value_ends[field] as usize;
        (batch.field_keys[field] as usize, &batch.values[value])
    })
}
