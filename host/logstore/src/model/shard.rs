//! Shards: sequences of log groups.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use logship_sls::hash_key::{HashKey, HashRange};
use tokio::sync::Notify;

use super::{Chain, Segments};
use crate::error::StoreError;

/// A shard: a sequence of log groups. The position of a log group is its cursor.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: i64,
    /// The number within the logstore.
    pub number: u32,
    /// True if the shard accepts puts: until it is split or merged.
    pub writable: bool,
    /// The range of hash keys that are routed to the shard.
    pub keys: HashRange,
    /// The shards it was split or merged from.
    pub parents: Vec<u32>,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The positions of its log groups.
    pub(crate) segments: Segments,
    pub(crate) state: Arc<ShardState>,
}

/// The state of a shard that changes with every put. Successive catalogs share it.
#[derive(Debug)]
pub(crate) struct ShardState {
    /// The position of the oldest log group.
    pub(crate) begin: AtomicU64,
    /// The position of the next log group.
    pub(crate) end: AtomicU64,
    /// The time of receipt of the last log group, in Unix seconds.
    pub(crate) received: AtomicU64,
    /// The time of the newest log, in Unix seconds.
    pub(crate) newest: AtomicU64,
    /// The chain of the log groups.
    pub(crate) chain: Mutex<Chain>,
    /// True if the newest catalog says that the shard accepts no more puts.
    pub(crate) read_only: AtomicBool,
    /// Wakes readers after a put.
    pub(crate) written: Notify,
}

/// A change of shards.
#[derive(Debug, Clone, Copy)]
pub enum Resharding {
    /// Splits a shard in two. The second shard gets the keys from `at` on. By default each shard gets half of the keys.
    Split {
        /// The first key of the second shard.
        at: Option<HashKey>,
    },
    /// Merges a shard with the shard of the next keys.
    Merge,
}

/// The number of bits of a row id that count the log groups of a shard: enough for 10^12 log groups.
pub(crate) const POSITION_BITS: u32 = 40;

impl Shard {
    /// Returns the position of the oldest stored log group.
    pub fn begin(&self) -> u64 {
        self.state.begin.load(Ordering::Acquire)
    }

    /// Returns the end of the shard: the position of the next log group.
    pub fn end(&self) -> u64 {
        self.state.end.load(Ordering::Acquire)
    }

    /// Returns the time of receipt of the last log group, in Unix seconds; 0 if the shard never had one.
    pub fn last_received(&self) -> u64 {
        self.state.received.load(Ordering::Relaxed)
    }

    /// Returns the time of the newest log, in Unix seconds; 0 if the shard never had one.
    pub fn newest(&self) -> u64 {
        self.state.newest.load(Ordering::Relaxed)
    }

    /// Returns the position of the first log group ever stored in it.
    pub(crate) fn origin(&self) -> u64 {
        self.segments.origin()
    }

    /// Returns the chain of the log groups.
    pub(crate) fn chain(&self) -> Chain {
        *self.state.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the chain of the log groups.
    pub(crate) fn update_chain(&self, update: impl FnOnce(&mut Chain)) {
        update(&mut self.state.chain.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until there is a log group at `position` or behind it.
    pub async fn wait_for(&self, position: u64) {
        loop {
            let written = self.state.written.notified();
            tokio::pin!(written);
            // Registers before the check, so that no put in between is missed.
            written.as_mut().enable();
            if self.groups_between(position, self.end()) > 0 {
                return;
            }
            written.await;
        }
    }

    /// Returns the number of log groups between two positions.
    pub fn groups_between(&self, from: u64, to: u64) -> u64 {
        self.segments.groups_before(to).saturating_sub(self.segments.groups_before(from))
    }

    /// Returns the position of the log group that follows `position`. It differs from `position` only where another
    /// generation of the store begins.
    pub fn resolve(&self, position: u64) -> u64 {
        self.segments.position(self.segments.groups_before(position)).max(position)
    }

    /// Returns the first position behind the logs that another life of the store may have shipped, if there are any.
    pub(crate) fn other_life_end(&self) -> Option<u64> {
        let end = self.segments.last_begin().map(|before| self.segments.position(before));
        end.or_else(|| (!self.writable).then(|| self.end()))
    }

    /// Returns the position of the log group before `position`.
    pub(crate) fn previous(&self, position: u64) -> Option<u64> {
        let before = self.segments.groups_before(position).checked_sub(1)?;
        Some(self.segments.position(before))
    }

    /// Checks that a position belongs to this store.
    ///
    /// # Errors
    /// [`StoreError::NoCursor`] behind the end, [`StoreError::OtherGeneration`] if another life of the store gave the
    /// position out.
    pub fn check(&self, position: u64) -> Result<(), StoreError> {
        let (shard, cursor, end) = (self.number, position, self.end());
        if position > end {
            return Err(StoreError::NoCursor { shard, cursor, begin: self.begin().min(end), end });
        }
        match self.segments.gap(position) {
            Some(gap) => Err(StoreError::OtherGeneration { shard, cursor, end: gap.end, next: gap.next }),
            None => Ok(()),
        }
    }

    /// Returns the row id of the log group at `position`.
    pub(crate) fn row(&self, position: u64) -> i64 {
        (self.id << POSITION_BITS)
            + self.segments.groups_before(position).min((1 << POSITION_BITS) - 1) as i64
    }

    /// Returns the range of the shard's row ids: the first, and one past the last.
    pub(crate) fn rows(&self) -> (i64, i64) {
        (self.id << POSITION_BITS, (self.id + 1) << POSITION_BITS)
    }

    /// Returns the position of the log group in `row`.
    pub(crate) fn position(&self, row: i64) -> u64 {
        self.segments.position((row - (self.id << POSITION_BITS)) as u64)
    }
}
