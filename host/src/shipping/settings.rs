//! Settings of shipping: how much it may take, and the times that it goes by.

use std::path::PathBuf;
use std::thread::available_parallelism;

use serde::Deserialize;

/// Settings of shipping. Every one has a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shipping {
    /// Objects that are encoded at one time; 0: one a core, as far as the memory goes.
    pub workers: usize,
    /// Bytes of memory for stages and for what is on its way to object stores; 0: 256 MiB a worker.
    pub max_memory_bytes: usize,
    /// Seconds until a task that failed is tried again; each time that it fails doubles it.
    pub retry_seconds: u64,
    /// Seconds after its creation until which a task is tried again by itself.
    pub retry_for_seconds: u64,
    /// Seconds that logs wait at most, whatever a rule says.
    pub longest_wait_seconds: u64,
    /// Seconds that tasks are listed after their success.
    pub keep_tasks_seconds: u64,
    /// Tasks in a row that a stage fails until its rule makes no more of them.
    pub hold_after_tasks: usize,
    /// Folder for objects on their way to an object store; by default one in the data directory.
    pub spool: Option<PathBuf>,
}

const TWO_DAYS: u64 = 2 * 86_400;

impl Default for Shipping {
    fn default() -> Self {
        Self {
            workers: 0,
            max_memory_bytes: 0,
            retry_seconds: 900,
            retry_for_seconds: TWO_DAYS,
            longest_wait_seconds: 900,
            keep_tasks_seconds: TWO_DAYS,
            hold_after_tasks: 3,
            spool: None,
        }
    }
}

/// What a worker needs at least: for JSON. A Parquet row group of 32 MB needs the usual share.
pub const LEAST_SHARE: usize = 128 << 20;
const SHARE: usize = 256 << 20;

/// Of a share, what is not for stages: logs that are read, and parts of two objects that are sent meanwhile.
const BESIDE: usize = 64 << 20;

/// A stage needs no more, and may have no more.
const MOST_OF_A_STAGE: usize = 256 << 20;

impl Shipping {
    /// How many objects are encoded at one time.
    pub fn workers(&self) -> usize {
        let wanted = match self.workers {
            0 => available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        match self.max_memory_bytes {
            0 => wanted,
            memory => wanted.min(memory / LEAST_SHARE).max(1),
        }
    }

    /// Bytes that an instance of a stage may have; an object has two of them at most.
    pub fn stage_memory(&self) -> usize {
        let share = match self.max_memory_bytes {
            0 => SHARE,
            memory => memory / self.workers(),
        };
        (share.saturating_sub(BESIDE) / 2).min(MOST_OF_A_STAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_bounds_workers_and_stages() {
        let of = |workers, megabytes: usize| {
            let settings = Shipping { workers, max_memory_bytes: megabytes << 20, ..Shipping::default() };
            (settings.workers(), settings.stage_memory() >> 20)
        };
        assert_eq!(of(4, 0), (4, 96));
        assert_eq!(of(4, 128), (1, 32));
        assert_eq!(of(4, 300), (2, 43));
        assert_eq!(of(2, 4096), (2, 256));
    }
}
