//! Reads a store's shards as batches for stages.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use logship_logstore::{Limits, LogPosition, Shard, Store, StoreError};
use logship_sls::compression::{CompressError, Compression, DecompressError};
use logship_sls::log_group::Malformed;
use logship_sls::lz4_splice::InvalidBlock;

use logship_batch::batch::{BatchBuilder, LogBatch};

/// The size of a batch for a stage, in bytes. Objects' bytes depend on it: another value could split a task that was
/// started before differently.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Reads shards. Reuse a reader for many reads, as it reuses its buffers.
#[derive(Debug, Default)]
pub struct ShardReader {
    raw: Vec<u8>,
    builder: BatchBuilder,
}

/// Log groups read from a shard.
#[derive(Debug)]
pub struct Slice {
    /// The logs.
    pub batch: LogBatch,
    /// The position and the number of logs of each log group.
    pub groups: Vec<(u64, u32)>,
    /// The time at which each log group was received, in Unix seconds.
    pub receive_times: Vec<u64>,
    /// The position after the last log group.
    pub next: u64,
}

/// A failed read of a shard.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store failed, or the position doesn't exist.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Logs were deleted before they were read.
    #[error("the log groups from {from} to {to} were deleted by the logstore's time to live")]
    Deleted {
        /// Position of the first missing log group.
        from: u64,
        /// Position of the first remaining log group.
        to: u64,
    },
    /// A log group can't be decompressed: the stored bytes are corrupt.
    #[error("the log group at {position} is corrupt: {source}")]
    Decompress {
        /// Position of the log group.
        position: u64,
        /// The error.
        source: DecompressError,
    },
    /// A log group can't be parsed: the stored bytes are corrupt.
    #[error("the log group at {position} is corrupt: {source}")]
    Parse {
        /// Position of the log group.
        position: u64,
        /// The error.
        source: Malformed,
    },
    /// A log group's LZ4 block can't be spliced: the stored bytes are corrupt.
    #[error("the log group at {position} is corrupt: {source}")]
    Splice {
        /// Position of the log group.
        position: u64,
        /// The error.
        source: InvalidBlock,
    },
    /// A part of a log group can't be compressed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

impl Slice {
    /// Returns the time at which the last log group was received, in Unix seconds. 0 without log groups.
    pub fn received(&self) -> u64 {
        self.receive_times.last().copied().unwrap_or(0)
    }

    /// Returns the number of logs before `end`.
    pub fn logs_before(&self, end: LogPosition) -> usize {
        let before = |(position, logs): &(u64, u32)| match position.cmp(&end.cursor) {
            Ordering::Less => *logs as usize,
            Ordering::Equal => end.log.min(*logs) as usize,
            Ordering::Greater => 0,
        };
        self.groups.iter().map(before).sum()
    }

    /// Returns the position of the log with the index `log`.
    pub fn place(&self, log: usize) -> LogPosition {
        let mut before = 0;
        for (position, logs) in &self.groups {
            let logs = *logs as usize;
            if log < before + logs {
                return LogPosition { cursor: *position, log: (log - before) as u32 };
            }
            before += logs;
        }
        LogPosition::at(self.next)
    }
}

impl ShardReader {
    /// Reads complete log groups from a position on, within the limits. Blocks on disk I/O.
    ///
    /// # Errors
    /// Fails if the store fails, the position is not in the shard, or a log group is corrupt.
    pub fn read(
        &mut self,
        store: &Store,
        shard: &Shard,
        from: u64,
        limits: Limits,
    ) -> Result<Slice, SourceError> {
        let mut corrupt = None;
        let (mut groups, mut receive_times) = (vec![], vec![]);
        let next = store.read(shard, from, limits, |group| {
            groups.push((group.position, group.logs));
            receive_times.push(group.received);
            let (position, size) = (group.position, group.size as usize);
            let decompressed = Compression::decompress_lz4_into(group.body, size, &mut self.raw)
                .map_err(|source| SourceError::Decompress { position, source });
            let added = decompressed.and_then(|raw| {
                self.builder.log_group(raw).map_err(|source| SourceError::Parse { position, source })
            });
            match added {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    corrupt = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        let batch = self.builder.take();
        match corrupt {
            Some(error) => Err(error),
            None => Ok(Slice { batch, groups, receive_times, next: next? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice() -> Slice {
        Slice {
            batch: BatchBuilder::default().take(),
            groups: vec![(5, 3), (6, 0), (7, 2)],
            receive_times: vec![0; 3],
            next: 8,
        }
    }

    #[test]
    fn log_index_maps_to_position() {
        let at = |log| slice().place(log).to_string();
        assert_eq!([at(0), at(2), at(3), at(4), at(5)], ["5", "5+2", "7", "7+1", "8"]);
    }

    #[test]
    fn counts_logs_before_task_end() {
        let before = |cursor, log| slice().logs_before(LogPosition { cursor, log });
        let all = [before(5, 1), before(5, 0), before(7, 0), before(7, 1), before(8, 0), before(9, 4)];
        assert_eq!(all, [1, 0, 3, 4, 5, 5]);
    }
}
