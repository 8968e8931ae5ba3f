//! The logs of dead letters.

use std::collections::BTreeSet;

use logship_batch::batch::{BatchBuilder, LogBatch, LogGroup, Tag};
use logship_logstore::{Limits, Store};
use logship_runtime::stage::Positions;
use logship_source::shard_reader::{ShardReader, Slice};
use serde_json::{Map, Value};

use super::Letters;
use crate::dead_letter::{Line, Position};

/// The logs of some letters of an object.
#[derive(Debug)]
pub(super) struct LetterLogs {
    pub(super) batch: LogBatch,
    pub(super) positions: Positions,
    /// The index of each log's letter.
    pub(super) letters: Vec<u32>,
}

/// Returns the logs of the letters that are not `done`: from a Logstore of this service if they are still there, or else
/// the copies in the letters. These lack bytes that are not UTF-8, and have passed the transformers before. Blocks.
pub(super) fn read(
    store: &Store,
    logstore: Option<(&str, &str)>,
    letters: &Letters,
    done: &BTreeSet<u32>,
) -> LetterLogs {
    let shard = letters.origin.shard;
    let mut found = Found { store, logstore, shard, reader: ShardReader::default(), last: None };
    let mut builder = BatchBuilder::default();
    let mut positions = Positions { shard, cursors: vec![], indexes: vec![], receive_times: vec![] };
    let left: Vec<u32> = (0..letters.lines.len() as u32).filter(|letter| !done.contains(letter)).collect();
    for letter in &left {
        let line = &letters.lines[*letter as usize];
        let Position { cursor, log, .. } = line.letter.position;
        let received = match found.group_of(line) {
            Some(slice) => {
                add(&mut builder, &slice.batch, log as usize);
                slice.received()
            }
            None => {
                add_copy(&mut builder, line.letter.fields.as_ref().and_then(Value::as_object));
                line.time
            }
        };
        positions.cursors.push(cursor);
        positions.indexes.push(log);
        // Unix seconds until 2106.
        positions.receive_times.push(received as u32);
    }
    LetterLogs { batch: builder.take(), positions, letters: left }
}

/// Finds log groups in a Logstore.
struct Found<'a> {
    store: &'a Store,
    logstore: Option<(&'a str, &'a str)>,
    shard: u32,
    reader: ShardReader,
    /// Letters of a log group follow each other.
    last: Option<(u64, Slice)>,
}

impl Found<'_> {
    /// Returns the log group of a letter, if it still has the letter's log.
    fn group_of(&mut self, line: &Line) -> Option<&Slice> {
        let Position { cursor, log, .. } = line.letter.position;
        if self.last.as_ref().is_none_or(|(last, _)| *last != cursor) {
            self.last = self.read(cursor).map(|slice| (cursor, slice));
        }
        let (_, slice) = self.last.as_ref()?;
        let time = line.letter.fields.as_ref()?.get("__time__")?.as_u64()?;
        let is_same = slice.batch.times.get(log as usize).is_some_and(|found| u64::from(*found) == time);
        is_same.then_some(slice)
    }

    fn read(&mut self, cursor: u64) -> Option<Slice> {
        let (project, logstore) = self.logstore?;
        let catalog = self.store.catalog();
        let shard = catalog.logstore(project, logstore).ok()?.shard(self.shard).ok()?;
        let limits = Limits { groups: 1, bytes: usize::MAX, end: u64::MAX };
        let slice = self.reader.read(self.store, shard, cursor, limits).ok()?;
        slice.groups.first().is_some_and(|(found, _)| *found == cursor).then_some(slice)
    }
}

/// Adds a log of a batch.
fn add(builder: &mut BatchBuilder, batch: &LogBatch, log: usize) {
    let group = builder.group(&batch.groups[batch.log_groups[log] as usize]);
    batch.log_fields(log).for_each(|(key, value)| builder.field(key, value));
    builder.end_log(group, batch.times[log], batch.nanos.get(log).copied().unwrap_or(0));
}

/// Adds the copy of a log in a letter.
fn add_copy(builder: &mut BatchBuilder, fields: Option<&Map<String, Value>>) {
    let mut group = LogGroup { topic: String::new(), source: String::new(), tags: vec![] };
    let mut time = 0;
    for (key, value) in fields.into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        match key.as_str() {
            "__time__" => time = value.as_u64().and_then(|time| u32::try_from(time).ok()).unwrap_or(0),
            "__topic__" => group.topic = text.to_owned(),
            "__source__" => group.source = text.to_owned(),
            key => match key.strip_prefix("__tag__:") {
                Some(tag) => group.tags.push(Tag { key: tag.to_owned(), value: text.to_owned() }),
                None => builder.field(key, text.as_bytes()),
            },
        }
    }
    let group = builder.group(&group);
    builder.end_log(group, time, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn copies_have_the_fields_and_the_group() {
        let copy = json!({
            "__time__": 7, "__topic__": "t", "__source__": "s", "__tag__:host": "h", "a": "1", "__field__:__time__": "x",
        });
        let mut builder = BatchBuilder::default();
        add_copy(&mut builder, copy.as_object());
        add_copy(&mut builder, None);
        let batch = builder.take();
        assert_eq!((batch.times[..].to_vec(), batch.check()), (vec![7, 0], Ok(())));
        let LogGroup { topic, source, tags } = &batch.groups[0];
        assert_eq!((topic.as_str(), source.as_str(), tags[0].key.as_str()), ("t", "s", "host"));
        let mut fields: Vec<_> = batch.log_fields(0).map(|(key, _)| key).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["__field__:__time__", "a"]);
        let mut again = BatchBuilder::default();
        add(&mut again, &batch, 0);
        assert_eq!(again.take().groups, batch.groups[..1]);
    }
}
