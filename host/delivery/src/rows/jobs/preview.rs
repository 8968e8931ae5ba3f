//! Previews: the logs of a window, their rows, and the rows that would be dirty. Writes nothing.

use std::ops::Range;

use logship_config::column_mapping::{ColumnMapping, ColumnValue};
use logship_source::shard_reader::Slice;
use serde_json::{Map, Value, json};

use super::blocks::BlockReaders;
use super::error::RunError;
use super::plan::{RunPlan, ShardRange};
use super::progress::ShardProgress;
use crate::dead_letter::DeadLetter;

/// The largest number of logs of a preview.
pub const MAX_LOGS: usize = 1000;

/// A preview.
#[derive(Debug, Default)]
pub struct JobPreview {
    /// The logs, each with its row.
    pub logs: Vec<PreviewedLog>,
    /// The number of rows of the whole sample, which has all logs of their log groups.
    pub rows: u64,
    /// The dirty rows of the sample: position and reason.
    pub dirty: Vec<(String, String)>,
}

/// A log and its row.
#[derive(Debug)]
pub struct PreviewedLog {
    /// The shard.
    pub shard: u32,
    /// The position: cursor, and index in the log group.
    pub position: (u64, u32),
    /// The log.
    pub log: Value,
    /// The value of each mapped column, before its conversion; null if the log lacks the field.
    pub row: Map<String, Value>,
}

/// Previews the first logs of a plan. Blocks.
pub(super) fn preview(
    blocks: &dyn BlockReaders,
    plan: &RunPlan,
    logs: usize,
) -> Result<JobPreview, RunError> {
    let mut found = JobPreview::default();
    for (ordinal, range) in plan.shards.iter().enumerate() {
        let left = logs.min(MAX_LOGS).saturating_sub(found.logs.len());
        if left == 0 {
            break;
        }
        let slice = blocks.sample(plan, ordinal, left)?;
        let sample = ShardRange { end: slice.next, ..*range };
        let (rows, dirty) = encode(blocks, plan, ordinal, sample)?;
        found.rows += rows;
        found.dirty.extend(dirty);
        found.logs.extend(show(&slice, range.shard, &plan.mapping, 0..left));
    }
    Ok(found)
}

/// Encodes a sample of a shard. Returns the number of rows, and the dirty ones.
fn encode(
    blocks: &dyn BlockReaders,
    plan: &RunPlan,
    ordinal: usize,
    sample: ShardRange,
) -> Result<(u64, Vec<(String, String)>), RunError> {
    let mut plan = plan.clone();
    plan.shards[ordinal] = sample;
    let start = ShardProgress { cursor: sample.begin, ..ShardProgress::default() };
    let mut reader = blocks.open(&plan, ordinal, &start)?;
    let (mut rows, mut dirty) = (0, vec![]);
    while let Some(block) = reader.next_block()? {
        rows += block.rows;
        let shown =
            |letter: DeadLetter| (format!("shard {} {}", sample.shard, letter.position), letter.reason);
        dirty.extend(block.dirty.into_iter().map(shown));
    }
    Ok((rows, dirty))
}

fn show<'a>(
    slice: &'a Slice,
    shard: u32,
    mapping: &'a ColumnMapping,
    logs: Range<usize>,
) -> impl Iterator<Item = PreviewedLog> + 'a {
    let end = logs.end.min(slice.batch.len());
    (logs.start..end).map(move |log| {
        let place = slice.place(log);
        let fields = slice.batch.log_fields(log).map(|(key, value)| (key.to_owned(), text(value)));
        let mut shown = Map::from_iter([("__time__".to_owned(), slice.batch.times[log].into())]);
        shown.extend(fields);
        let row = mapping.columns.iter().map(|column| {
            let value = match &column.value {
                ColumnValue::Constant(constant) => constant.clone().into(),
                ColumnValue::Field(key) => value(slice, log, shard, key),
                ColumnValue::System(name) => value(slice, log, shard, &format!("__{name}__")),
            };
            (column.column.clone(), value)
        });
        PreviewedLog { shard, position: (place.cursor, place.log), row: row.collect(), log: shown.into() }
    })
}

/// Returns the value of a field or of a property of a log; null if it lacks it.
fn value(slice: &Slice, log: usize, shard: u32, key: &str) -> Value {
    let batch = &slice.batch;
    let group = batch.log_groups.get(log).and_then(|&group| batch.groups.get(group as usize));
    let position = slice.place(log);
    let tag = key.strip_prefix("__tag__:").filter(|name| !name.is_empty());
    match key {
        "__time__" => batch.times[log].into(),
        "__topic__" => group.map_or(Value::Null, |group| json!(group.topic)),
        "__source__" => group.map_or(Value::Null, |group| json!(group.source)),
        "__shard__" => shard.into(),
        "__cursor__" => position.cursor.into(),
        "__index__" => position.log.into(),
        _ if tag.is_some() => {
            let tags = group.into_iter().flat_map(|group| &group.tags);
            tags.filter(|known| Some(known.key.as_str()) == tag)
                .map(|known| json!(known.value))
                .next_back()
                .unwrap_or_default()
        }
        _ => {
            let fields = batch.log_fields(log).filter(|(name, _)| *name == key);
            fields.map(|(_, value)| text(value)).last().unwrap_or_default()
        }
    }
}

fn text(value: &[u8]) -> Value {
    String::from_utf8_lossy(value).into_owned().into()
}
