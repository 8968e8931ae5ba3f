//! Shards of a store as batches for stages.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use logship_logstore::{Limits, Place, Shard, Store, StoreError};
use logship_sls::compression::{CompressError, Compression, DecompressError};
use logship_sls::log_group::Malformed;
use logship_sls::lz4_splice::InvalidBlock;

use crate::batch::{BatchBuilder, LogBatch};

/// Bytes of logs that are read, and given to a stage, at once. It is part of what decides an object's bytes: with
/// another value a task that was begun before might be cut elsewhere.
pub(crate) const CHUNK: usize = 512 << 10;

/// Reads shards. Use one for many reads: it keeps its memory.
#[derive(Debug, Default)]
pub struct ShardReader {
    raw: Vec<u8>,
    builder: BatchBuilder,
}

/// What was read of a shard.
#[derive(Debug)]
pub struct Slice {
    /// The logs.
    pub batch: LogBatch,
    /// The positions of their log groups, and how many logs each has.
    pub groups: Vec<(u64, u32)>,
    /// The position behind them.
    pub next: u64,
    /// When the last of them was received, in Unix seconds; 0 if there are none.
    pub received: u64,
}

/// Why a shard can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store failed, or has no such position.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Logs were deleted while they were to be read.
    #[error("the log groups from {from} to {to} were deleted by the logstore's time to live")]
    Deleted {
        /// The first that is missing.
        from: u64,
        /// The first that is there.
        to: u64,
    },
    /// A log group can't be unpacked: the disk changed it.
    #[error("the log group at {position} is damaged: {source}")]
    Packed {
        /// Where it stands.
        position: u64,
        /// What is wrong.
        source: DecompressError,
    },
    /// A log group can't be read: the disk changed it.
    #[error("the log group at {position} is damaged: {source}")]
    Group {
        /// Where it stands.
        position: u64,
        /// What is wrong.
        source: Malformed,
    },
    /// A log group can't be sent as it lies: the disk changed it.
    #[error("the log group at {position} is damaged: {source}")]
    Block {
        /// Where it stands.
        position: u64,
        /// What is wrong.
        source: InvalidBlock,
    },
    /// A part of a log group can't be packed.
    #[error(transparent)]
    Pack(#[from] CompressError),
}

impl Slice {
    /// How many of its logs are before `end`.
    pub(crate) fn logs_before(&self, end: Place) -> usize {
        let before = |(position, logs): &(u64, u32)| match position.cmp(&end.cursor) {
            Ordering::Less => *logs as usize,
            Ordering::Equal => end.log.min(*logs) as usize,
            Ordering::Greater => 0,
        };
        self.groups.iter().map(before).sum()
    }

    /// The place before its log number `log`.
    pub(crate) fn place(&self, log: usize) -> Place {
        let mut before = 0;
        for (position, logs) in &self.groups {
            let logs = *logs as usize;
            if log < before + logs {
                return Place { cursor: *position, log: (log - before) as u32 };
            }
            before += logs;
        }
        Place::at(self.next)
    }
}

impl ShardReader {
    /// The logs from a position on, whole log groups within the limits. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails, the position is none of the shard, or a log group is damaged.
    pub fn read(
        &mut self,
        store: &Store,
        shard: &Shard,
        from: u64,
        limits: Limits,
    ) -> Result<Slice, SourceError> {
        let mut damaged = None;
        let (mut received, mut groups) = (0, vec![]);
        let next = store.read(shard, from, limits, |group| {
            received = group.received;
            groups.push((group.position, group.logs));
            let (position, size) = (group.position, group.size as usize);
            let unpacked = Compression::decompress_lz4_into(group.body, size, &mut self.raw)
                .map_err(|source| SourceError::Packed { position, source });
            let added = unpacked.and_then(|raw| {
                self.builder.log_group(raw).map_err(|source| SourceError::Group { position, source })
            });
            match added {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    damaged = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        let batch = self.builder.take();
        match damaged {
            Some(error) => Err(error),
            None => Ok(Slice { batch, groups, next: next?, received }),
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
            next: 8,
            received: 0,
        }
    }

    #[test]
    fn logs_of_a_slice_have_places() {
        let at = |log| slice().place(log).to_string();
        assert_eq!([at(0), at(2), at(3), at(4), at(5)], ["5", "5+2", "7", "7+1", "8"]);
    }

    #[test]
    fn a_slice_ends_where_the_task_does() {
        let before = |cursor, log| slice().logs_before(Place { cursor, log });
        let all = [before(5, 1), before(5, 0), before(7, 0), before(7, 1), before(8, 0), before(9, 4)];
        assert_eq!(all, [1, 0, 3, 4, 5, 5]);
    }
}
