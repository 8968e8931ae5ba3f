//! Collects the values of columns, and writes them when there are enough for a record batch.

use std::ops::Range;

use logship_stage::mapping::Values;
use logship_stage::rows::DirtyValue;
use logship_stage::{Batch, LogGroup};

use crate::array::Array;
use crate::arrow::record_batch;
use crate::config::Protocol;
use crate::convert::Rules;
use crate::frame::Frame;
use crate::stream::Stream;
use crate::types::Type;

/// The most logs of a record batch, and the bytes of logs after which it ends.
const BATCH_LOGS: usize = 16_384;
const BATCH_BYTES: usize = 1 << 20;
/// The overhead of a log and of each of its fields, in bytes, in the size of a record batch.
const LOG_OVERHEAD: usize = 32;
const FIELD_OVERHEAD: usize = 8;
/// The most values of a log that are reported as dirty.
const MAX_DIRTY: usize = 16;

/// A block of rows that is being encoded.
#[derive(Debug)]
pub(crate) struct Block {
    rules: Rules,
    columns: Vec<Column>,
    writer: Writer,
    /// The bytes of constants in a row.
    constants: usize,
    /// The logs since the last record batch, with those of dirty rows, and their size. They alone decide where it ends,
    /// so that the bytes don't depend on the host's chunks.
    logs: usize,
    size: usize,
}

/// A column, and its values that are not written yet.
#[derive(Debug)]
pub(crate) struct Column {
    name: String,
    data_type: Type,
    nullable: bool,
    array: Array,
}

/// The protocol of the block.
#[derive(Debug)]
enum Writer {
    Arrow(Frame),
    Stream(Stream),
}

impl Block {
    pub(crate) fn new(protocol: Protocol, rules: Rules, columns: Vec<Column>, constants: usize) -> Self {
        let writer = match protocol {
            Protocol::MaxcomputeArrow => Writer::Arrow(Frame::default()),
            Protocol::MaxcomputeStream => Writer::Stream(Stream::default()),
        };
        Self { rules, columns, writer, constants, logs: 0, size: 0 }
    }

    /// Adds the rows of a batch. Returns the next bytes of the block, and the values that do not convert.
    pub(crate) fn push(&mut self, batch: &Batch, values: &Values<'_>) -> (Vec<u8>, Vec<DirtyValue>) {
        self.rules.is_utf8 = batch.values_are_utf8();
        let shared = group_sizes(batch);
        let (mut bytes, mut dirty, mut begin) = (vec![], vec![], 0);
        while begin < batch.len() {
            let end = self.extend_record_batch(batch, begin, &shared);
            self.append(values, begin..end, &mut dirty);
            if self.is_full() {
                self.write(&mut bytes);
            }
            begin = end;
        }
        (bytes, dirty)
    }

    /// Returns the last bytes of the block.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut bytes = vec![];
        self.write(&mut bytes);
        match self.writer {
            Writer::Arrow(frame) => bytes.extend(frame.finish()),
            Writer::Stream(stream) => bytes.extend(stream.finish()),
        }
        bytes
    }

    fn is_full(&self) -> bool {
        self.logs >= BATCH_LOGS || self.size >= BATCH_BYTES
    }

    /// Extends the record batch by logs from `begin` on, until it is full. Returns the end of these logs.
    fn extend_record_batch(&mut self, batch: &Batch, begin: usize, shared: &[usize]) -> usize {
        let raw = batch.raw();
        let value_end = |field: u32| field.checked_sub(1).map_or(0, |last| raw.value_ends[last as usize]);
        let mut fields = begin.checked_sub(1).map_or(0, |log| raw.field_ends[log]);
        let mut values = value_end(fields);
        for log in begin..batch.len() {
            let (field_end, end) = (raw.field_ends[log], value_end(raw.field_ends[log]));
            self.size += (end - values) as usize
                + (field_end - fields) as usize * FIELD_OVERHEAD
                + shared[raw.log_groups[log] as usize]
                + self.constants
                + LOG_OVERHEAD;
            self.logs += 1;
            (fields, values) = (field_end, end);
            if self.is_full() {
                return log + 1;
            }
        }
        batch.len()
    }

    /// Appends the rows of some logs. Logs with values that do not convert have none.
    fn append(&mut self, values: &Values<'_>, logs: Range<usize>, dirty: &mut Vec<DirtyValue>) {
        let before = self.columns.first().map_or(0, |column| column.array.len());
        let found = self.append_logs(values, logs.clone(), &[]);
        if found.is_empty() {
            return;
        }
        // Rare: again, without the dirty rows.
        let mut skipped = vec![false; logs.len()];
        found.iter().for_each(|value| skipped[value.log as usize - logs.start] = true);
        self.columns.iter_mut().for_each(|column| column.array.truncate(before));
        self.append_logs(values, logs, &skipped);
        dirty.extend(
            found
                .chunk_by(|one, next| one.log == next.log)
                .flat_map(|values| values[..values.len().min(MAX_DIRTY)].iter().cloned()),
        );
    }

    /// Appends the values of some logs, except skipped ones, column by column. Returns those that do not convert, by log.
    fn append_logs(&mut self, values: &Values<'_>, logs: Range<usize>, skipped: &[bool]) -> Vec<DirtyValue> {
        let mut dirty = vec![];
        for (index, column) in self.columns.iter_mut().enumerate() {
            if column.nullable && values.is_null(index) {
                let rows = logs.len() - skipped.iter().filter(|&&skipped| skipped).count();
                (0..rows).for_each(|_| column.array.push_null());
                continue;
            }
            column.append(&self.rules, values, index, (logs.clone(), skipped), &mut dirty);
        }
        dirty.sort_by_key(|value: &DirtyValue| value.log);
        dirty
    }

    /// Writes the buffered rows.
    fn write(&mut self, out: &mut Vec<u8>) {
        let rows = self.columns.first().map_or(0, |column| column.array.len());
        if rows > 0 {
            match &mut self.writer {
                Writer::Arrow(frame) => {
                    let arrays: Vec<&Array> = self.columns.iter().map(|column| &column.array).collect();
                    frame.write(&record_batch(&arrays, rows), out);
                }
                Writer::Stream(stream) => {
                    let columns: Vec<_> =
                        self.columns.iter().map(|column| (&column.data_type, &column.array)).collect();
                    stream.write(&columns, rows, out);
                }
            }
            self.columns.iter_mut().for_each(|column| column.array.truncate(0));
        }
        (self.logs, self.size) = (0, 0);
    }
}

impl Column {
    pub(crate) fn new(rules: &Rules, name: &str, data_type: Type, nullable: bool) -> Self {
        Self { name: name.to_owned(), array: rules.array(&data_type), data_type, nullable }
    }

    fn append(
        &mut self,
        rules: &Rules,
        values: &Values<'_>,
        index: usize,
        (logs, skipped): (Range<usize>, &[bool]),
        dirty: &mut Vec<DirtyValue>,
    ) {
        let Self { name, data_type, nullable, array } = self;
        let begin = logs.start;
        for log in logs {
            if skipped.get(log - begin).is_some_and(|&skipped| skipped) {
                continue;
            }
            let (before, nulls) = (array.len(), array.nulls);
            let mut appended = rules.append(array, data_type, values.value(index, log));
            if !*nullable && array.nulls > nulls && appended.is_ok() {
                appended = Err("it is null, and the column accepts no null".into());
            }
            if let Err(reason) = appended {
                array.truncate(before);
                array.push_null();
                dirty.push(DirtyValue { log: log as u32, column: name.clone(), reason });
            }
        }
    }
}

/// Returns the size of each group's topic, source and tags.
fn group_sizes(batch: &Batch) -> Vec<usize> {
    let size = |group: &LogGroup| {
        let tags = group.tags.iter().map(|tag| tag.value.len());
        group.topic.len() + group.source.len() + tags.sum::<usize>()
    };
    batch.raw().groups.iter().map(size).collect()
}
