//! Shards of a store as batches for stages.

use std::ops::ControlFlow;

use logship_logstore::{Limits, Shard, Store, StoreError};
use logship_sls::compression::{Compression, DecompressError};
use logship_sls::log_group::Malformed;

use crate::batch::{BatchBuilder, LogBatch};

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
        let mut received = 0;
        let next = store.read(shard, from, limits, |group| {
            received = group.received;
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
            None => Ok(Slice { batch, next: next?, received }),
        }
    }
}
