//! Writes the rows of a task: chunk by chunk, as the logs are read.

use logship_logstore::{Limits, LogPosition, LostValues};
use logship_runtime::stage::Rows as StageRows;
use logship_sink::table_store::{RejectedRow, Rows, Stop, TableStore, Write};
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader, Slice};
use tokio::runtime::Handle;

use crate::dead_letter::{DeadLetters, Origin};
use crate::engine::Step;
use crate::engine::batch::Attempt;
use crate::engine::error::{Failure, TaskError};
use crate::rows::dirty::DirtyRow;
use crate::rows::encode::{EncodedPiece, RowWriter};

/// Several rows would have the same key.
#[derive(Debug, thiserror::Error)]
#[error(
    "a transformer makes several logs of one, and the default key gives them the same row: set `key` to columns that tell them apart"
)]
struct RepeatedPositions;

/// The row encoder makes rows for another protocol, and their ends are unknown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the row encoder made {rows} rows with {ends} ends and {keys} keys: rows of Table Store need one of each. Use a row encoder for Table Store"
)]
pub struct Inseparable {
    rows: u32,
    ends: usize,
    keys: usize,
}

/// Returns the rows of a row encoder as Table Store needs them: each with its end and its key. Without this check, rows
/// without ends would count as none, and be lost.
pub(crate) fn separate(rows: &StageRows) -> Result<Rows<'_>, Inseparable> {
    let StageRows { bytes, count, ends, key_ends, .. } = rows;
    let is_complete = ends.len() == *count as usize && key_ends.len() == ends.len();
    if !is_complete || (ends.is_empty() && !bytes.is_empty()) {
        return Err(Inseparable { rows: *count, ends: ends.len(), keys: key_ends.len() });
    }
    Ok(Rows { bytes, ends, key_ends })
}

/// The rows of a task, and where they go.
pub(super) struct TaskRows<'p> {
    pub(super) sink: &'p TableStore,
    pub(super) to: Write<'p>,
    /// True if a row's key is the position of its log.
    pub(super) has_default_key: bool,
    pub(super) dead_letters: &'p DeadLetters,
    pub(super) origin: Origin,
    pub(super) runtime: &'p Handle,
}

/// The rows that are written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) rows: u64,
    /// The bytes of the logs.
    pub(super) raw_bytes: u64,
    /// The bytes of the rows.
    pub(super) stored_bytes: u64,
    /// Logs that the transformers filtered.
    pub(super) filtered: u64,
    /// The dirty rows.
    pub(super) lost: LostValues,
}

impl TaskRows<'_> {
    /// Reads the logs of a task and writes their rows.
    pub(super) fn write(
        &self,
        attempt: &Attempt<'_>,
        mut encoder: RowWriter,
        stop: Stop<'_>,
    ) -> Result<Written, TaskError> {
        let (task, shard) = (attempt.task, attempt.shard()?);
        let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end: task.end.end_cursor() };
        let (mut reader, mut written, mut at) =
            (ShardReader::default(), Written::default(), task.begin.cursor);
        while LogPosition::at(at) < task.end {
            if stop() {
                return Err(TaskError::Stopping);
            }
            let slice = attempt.read_slice(&mut reader, &shard, at, limits)?;
            self.write_slice(&slice, &mut encoder, stop, &mut written)?;
            Step::PartlyPublished.reached();
            at = slice.next;
        }
        Ok(written)
    }

    fn write_slice(
        &self,
        slice: &Slice,
        encoder: &mut RowWriter,
        stop: Stop<'_>,
        written: &mut Written,
    ) -> Result<(), TaskError> {
        let (pieces, mut dirty) = encoder.push_pieces(slice)?;
        let rejected = dirty.iter().filter(|row| row.values.is_empty()).count();
        let mut represented = rejected;
        for piece in &pieces {
            represented += piece.represented();
            if self.has_default_key && piece.has_repeated_positions() {
                return Err(Failure::new(RepeatedPositions).into());
            }
            for RejectedRow { row, error } in self.write_piece(piece, stop, written)? {
                dirty.push(piece.refused(slice, row, &error.code, &error.message));
                written.rows -= 1;
            }
        }
        written.filtered += slice.batch.len().saturating_sub(represented) as u64;
        written.raw_bytes += slice.batch.bytes() as u64;
        self.keep(dirty, slice.received(), written)
    }

    /// Writes the rows of a piece. Returns those that Table Store refuses.
    fn write_piece(
        &self,
        piece: &EncodedPiece<'_>,
        stop: Stop<'_>,
        written: &mut Written,
    ) -> Result<Vec<RejectedRow>, TaskError> {
        let rows = separate(&piece.rows).map_err(Failure::new)?;
        let refused = self.runtime.block_on(self.sink.write(self.to, rows, stop))?;
        written.rows += rows.ends.len() as u64;
        written.stored_bytes += rows.bytes.len() as u64;
        Ok(refused)
    }

    /// Keeps dirty rows as dead letters, and counts them by column.
    fn keep(&self, dirty: Vec<DirtyRow>, time: u64, written: &mut Written) -> Result<(), TaskError> {
        dirty.iter().for_each(|row| row.count(format!("log {}", row.position), &mut written.lost));
        let letters: Vec<_> = dirty.into_iter().map(|row| row.letter).collect();
        Ok(self.dead_letters.save(&self.origin, time, &letters)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_an_end_and_a_key() {
        let rows = |count, ends: &[u32], key_ends: &[u32]| StageRows {
            bytes: b"abcd".to_vec(),
            count,
            ends: ends.to_vec(),
            key_ends: key_ends.to_vec(),
            logs: vec![],
            dirty: vec![],
        };
        separate(&rows(2, &[2, 4], &[1, 3])).unwrap();
        separate(&StageRows { bytes: vec![], ..rows(0, &[], &[]) }).unwrap();
        // As encoders of MaxCompute return them, and with the wrong number of keys.
        for wrong in [rows(2, &[], &[]), rows(2, &[2, 4], &[]), rows(0, &[], &[]), rows(2, &[4], &[1])] {
            let error = separate(&wrong).unwrap_err().to_string();
            assert!(error.contains("need one of each"), "{error}");
        }
    }
}
