//! The logs of a task, and samples of a shard.

use std::ops::Range;

use logship_batch::batch::LogBatch;
use logship_logstore::{Limits, LogPosition, Shard, Store, StoreError};
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader, Slice, SourceError};

use crate::engine::batch::attempt::Attempt;
use crate::engine::error::TaskError;

/// Takes the logs of a task.
pub(crate) trait TakeLogs {
    /// Returns true if the task must end before the next logs.
    fn is_full(&self) -> bool;

    /// Takes some logs of a batch. Returns the end of the logs taken: the task ends there if some are left.
    fn take(&mut self, batch: &LogBatch, logs: Range<usize>) -> Result<usize, TaskError>;
}

impl Attempt<'_> {
    /// Reads the logs of the task until `output` takes no more. Returns the end of the task, and the bytes read.
    pub(crate) fn read_logs(
        &self,
        reader: &mut ShardReader,
        output: &mut impl TakeLogs,
    ) -> Result<(LogPosition, u64), TaskError> {
        let (task, shard) = (self.task, self.shard()?);
        let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end: task.end.end_cursor() };
        let (mut at, mut read) = (task.begin, 0);
        while at < task.end && !output.is_full() {
            if self.is_stopping() {
                return Err(TaskError::Stopping);
            }
            let Some(slice) = self.read_undamaged(reader, &shard, at, limits)? else { break };
            let end = slice.logs_before(task.end);
            let taken = output.take(&slice.batch, at.log as usize..end)?;
            read += slice.batch.bytes() as u64;
            at = slice.place(taken);
            if taken < end {
                break;
            }
        }
        Ok((at, read))
    }

    /// Reads the complete log groups of the task. Returns its end.
    pub(crate) fn read_groups(
        &self,
        reader: &mut ShardReader,
        mut take: impl FnMut(&Slice) -> Result<(), TaskError>,
    ) -> Result<LogPosition, TaskError> {
        let (task, shard) = (self.task, self.shard()?);
        let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end: task.end.end_cursor() };
        let mut at = task.begin;
        while at < task.end {
            if self.is_stopping() {
                return Err(TaskError::Stopping);
            }
            let Some(slice) = self.read_undamaged(reader, &shard, at, limits)? else { break };
            take(&slice)?;
            at = LogPosition::at(slice.next);
        }
        Ok(at)
    }

    /// Reads the next logs of the task. `None` if the task must end here.
    fn read_undamaged(
        &self,
        reader: &mut ShardReader,
        shard: &Shard,
        at: LogPosition,
        limits: Limits,
    ) -> Result<Option<Slice>, TaskError> {
        match self.read_slice(reader, shard, at.cursor, limits) {
            // The task ends in front of the damaged log group. The next one begins there, and fails.
            Err(TaskError::Source(SourceError::Store(StoreError::Damaged(_)))) if at > self.task.begin => {
                Ok(None)
            }
            slice => slice.map(Some),
        }
    }

    /// Reads the logs at a cursor. Fails if they were deleted.
    pub(crate) fn read_slice(
        &self,
        reader: &mut ShardReader,
        shard: &Shard,
        cursor: u64,
        limits: Limits,
    ) -> Result<Slice, TaskError> {
        let slice = reader.read(&self.engine.store, shard, cursor, limits)?;
        match slice.groups.first() {
            Some(&(first, _)) if first == shard.resolve(cursor) => Ok(slice),
            other => {
                let to = other.map_or(shard.begin(), |&(first, _)| first);
                Err(self.expired(cursor, to))
            }
        }
    }
}

/// The next logs of a shard, to measure the expansion ratio.
#[derive(Debug)]
pub struct LogSample<'a> {
    pub(super) store: &'a Store,
    pub(super) shard: &'a Shard,
    pub(super) reader: &'a mut ShardReader,
    /// Position of the next logs.
    pub(super) next: u64,
    /// The end of the sample.
    pub(super) end: u64,
}

impl LogSample<'_> {
    /// Reads the next logs. `None` at the end of the sample.
    ///
    /// # Errors
    /// When the logs can't be read.
    pub fn read(&mut self) -> Result<Option<LogBatch>, TaskError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end: self.shard.end() };
        let slice = self.reader.read(self.store, self.shard, self.next, limits)?;
        self.next = slice.next;
        Ok(Some(slice.batch))
    }
}
