//! Dirty rows: logs that have no row, because a value does not convert to the type of its column, or a transformer rejects
//! the log.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dead_letter::{DIRTY, DeadLetter, Position};
use crate::pipeline::pieces::Piece;
use logship_logstore::{LostColumn, LostValues};
use logship_runtime::stage::DirtyValue;
use logship_source::shard_reader::Slice;

/// A log without a row.
#[derive(Debug, Clone, PartialEq)]
pub struct DirtyRow {
    /// The position of the log.
    pub position: Position,
    /// The columns whose values do not convert, with the reasons. The column is empty if the problem concerns the whole
    /// row. Empty if a transformer rejected the log.
    pub values: Vec<(String, String)>,
    /// The dead letter, with all reasons and the log.
    pub letter: DeadLetter,
}

impl DirtyRow {
    /// The row of a log of a piece, which a transformer rejects or the destination refuses.
    pub(super) fn of(slice: &Slice, piece: &Piece<'_>, log: usize, code: &str, reason: &str) -> Self {
        let place = slice.place(piece.origin(log) as usize);
        let position = Position { cursor: place.cursor, group: 0, log: place.log };
        let mut letter = DeadLetter::of_log(position, code, reason, &piece.batch, log);
        add_group(&mut letter, piece, log);
        Self { position, values: vec![], letter }
    }

    /// The row of a log of a piece, with values that do not convert.
    fn of_values(slice: &Slice, piece: &Piece<'_>, log: usize, values: &[DirtyValue]) -> Self {
        let mut row = Self::of(slice, piece, log, DIRTY, &reasons(values));
        row.letter.columns = values.iter().map(|value| value.column.clone()).collect();
        row.values = values.iter().map(|value| (value.column.clone(), value.reason.clone())).collect();
        row
    }

    /// Counts the row among the lost values, under its first column.
    pub(super) fn count(&self, example: String, lost: &mut LostValues) {
        let (column, reason) = match self.values.first() {
            Some((column, reason)) => (column.clone(), reason.clone()),
            None => (String::new(), self.letter.reason.clone()),
        };
        lost.add(column, LostColumn { count: 1, example, reason });
    }
}

/// Collects the dirty rows of a slice.
#[derive(Debug)]
pub(super) struct DirtyRows<'s> {
    slice: &'s Slice,
    /// By the log's index in the slice, the rows of that log.
    rows: BTreeMap<u32, Vec<DirtyRow>>,
}

impl<'s> DirtyRows<'s> {
    pub(super) fn of(slice: &'s Slice) -> Self {
        Self { slice, rows: BTreeMap::new() }
    }

    /// Adds a log that a transformer rejects.
    pub(super) fn reject(&mut self, piece: &Piece<'_>, log: usize, reason: &str) {
        self.insert(piece, log, DirtyRow::of(self.slice, piece, log, "rejected", reason));
    }

    /// Adds the dirty values of a piece.
    pub(super) fn add(&mut self, piece: &Piece<'_>, values: &[DirtyValue]) {
        for values in values.chunk_by(|one, next| one.log == next.log) {
            let log = values[0].log as usize;
            self.insert(piece, log, DirtyRow::of_values(self.slice, piece, log, values));
        }
    }

    /// Returns the dirty rows in the order of their logs.
    pub(super) fn finish(self) -> Vec<DirtyRow> {
        self.rows.into_values().flatten().collect()
    }

    fn insert(&mut self, piece: &Piece<'_>, log: usize, row: DirtyRow) {
        self.rows.entry(piece.origin(log)).or_default().push(row);
    }
}

/// Adds the topic, source and tags to the log of a letter, so that it can be put again.
fn add_group(letter: &mut DeadLetter, piece: &Piece<'_>, log: usize) {
    let group = &piece.batch.groups[piece.batch.log_groups[log] as usize];
    let Some(Value::Object(fields)) = &mut letter.fields else { return };
    let shared = [("__topic__", &group.topic), ("__source__", &group.source)];
    let shared = shared.into_iter().filter(|(_, value)| !value.is_empty());
    fields.extend(shared.map(|(key, value)| (key.to_owned(), value.clone().into())));
    fields.extend(group.tags.iter().map(|tag| (format!("__tag__:{}", tag.key), tag.value.clone().into())));
}

/// Joins the reasons, each after its column.
pub(super) fn reasons(values: &[DirtyValue]) -> String {
    let reason = |value: &DirtyValue| match value.column.as_str() {
        "" => value.reason.clone(),
        column => format!("column {column}: {}", value.reason),
    };
    values.iter().map(reason).collect::<Vec<_>>().join("; ")
}
