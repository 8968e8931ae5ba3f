//! Checks the invariants of a batch, as every stage must, and iterates over the fields of its logs.

use crate::logship::batch::types::LogBatch;

/// Returns a description of the invariant that a batch breaks, if any.
pub fn broken_invariant(batch: &LogBatch) -> Option<&'static str> {
    let (logs, fields) = (batch.times.len(), batch.field_keys.len());
    let covers = |ends: &[u32], total: usize| {
        ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == total
    };
    let within =
        |indices: &[u32], count: usize| indices.iter().all(|&index| (index as usize) < count);
    if batch.log_groups.len() != logs || batch.field_ends.len() != logs {
        return Some("log-groups and field-ends must have one element per log");
    }
    if !(batch.nanos.is_empty()
        || batch.nanos.len() == logs && batch.nanos.iter().all(|&nanos| nanos < 1_000_000_000))
    {
        return Some("nanos must have one element below 1,000,000,000 per log");
    }
    if batch.value_ends.len() != fields {
        return Some("value-ends must have one element per field");
    }
    if !covers(&batch.field_ends, fields) || !covers(&batch.value_ends, batch.values.len()) {
        return Some("field-ends and value-ends must be sorted and cover all fields and values");
    }
    if !within(&batch.log_groups, batch.groups.len())
        || !within(&batch.field_keys, batch.keys.len())
    {
        return Some("log-groups or field-keys has an index out of range");
    }
    None
}

/// Returns the name under which a field may be shown. Reserved names belong to the log's own time, topic, source and tags:
/// a field called so is renamed, or whoever writes a log could forge them.
#[allow(dead_code, reason = "only stages that show keys need it")]
pub fn field_name(key: &str) -> String {
    let reserved = ["__time__", "__time_ns_part__", "__topic__", "__source__"];
    if reserved.contains(&key) || key.starts_with("__tag__:") {
        format!("__field__:{key}")
    } else {
        key.to_owned()
    }
}

/// Iterates over the fields of a log, in order: the index of the key, and the value.
pub fn fields(batch: &LogBatch, log: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let start_of = |ends: &[u32], index: usize| {
        if index == 0 {
            0
        } else {
            ends[index - 1] as usize
        }
    };
    let fields = start_of(&batch.field_ends, log)..batch.field_ends[log] as usize;
    fields.map(move |field| {
        let value = start_of(&batch.value_ends, field)..batch.value_ends[field] as usize;
        (batch.field_keys[field] as usize, &batch.values[value])
    })
}
