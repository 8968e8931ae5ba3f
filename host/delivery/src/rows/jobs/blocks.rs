//! Blocks of rows: what a run uploads.

use std::fmt::Debug;

use bytes::Bytes;
use logship_logstore::LogPosition;
use logship_source::shard_reader::Slice;

use super::error::RunError;
use super::plan::RunPlan;
use super::progress::ShardProgress;
use crate::dead_letter::DeadLetter;

/// A block of rows of a shard.
#[derive(Debug)]
pub struct Block {
    /// The position behind its last log.
    pub end: LogPosition,
    /// The rows.
    pub bytes: Bytes,
    /// The number of rows.
    pub rows: u64,
    /// The bytes of its logs.
    pub log_bytes: u64,
    /// The logs that have no row.
    pub dirty: Vec<DeadLetter>,
}

/// Does work in a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RunError::Panicked(error.to_string()))?
}

/// Makes the blocks of a shard, one after the other.
pub trait BlockReader: Send {
    /// Makes the next block. Returns `None` at the end of the range. Blocks.
    ///
    /// # Errors
    /// If the logs can't be read, or a stage fails.
    fn next_block(&mut self) -> Result<Option<Block>, RunError>;
}

/// Makes blocks. They depend on the plan alone, so an attempt makes the same ones as the attempt before it.
pub trait BlockReaders: Debug + Send + Sync {
    /// Returns the digest of the row encoder of new plans.
    ///
    /// # Errors
    /// If there is none.
    fn stage(&self) -> Result<String, RunError>;

    /// Checks that the row encoder accepts the table and the mapping of a plan. Blocks.
    ///
    /// # Errors
    /// The first column that does not fit.
    fn check(&self, plan: &RunPlan) -> Result<(), RunError>;

    /// Reads about `groups` log groups from the begin of a shard's range, for a preview. Blocks.
    ///
    /// # Errors
    /// If the logs can't be read.
    fn sample(&self, plan: &RunPlan, ordinal: usize, groups: usize) -> Result<Slice, RunError>;

    /// Opens a shard of a plan behind the blocks that the session has. Blocks.
    ///
    /// # Errors
    /// If the row encoder or the shard is gone.
    fn open(
        &self,
        plan: &RunPlan,
        ordinal: usize,
        done: &ShardProgress,
    ) -> Result<Box<dyn BlockReader>, RunError>;
}
