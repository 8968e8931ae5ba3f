//! Settings of shipping: resource limits and times.

use std::path::PathBuf;
use std::thread::available_parallelism;

use serde::Deserialize;

/// Settings of shipping. All have defaults.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shipping {
    /// Objects encoded concurrently; 0: one per core, limited by `max-memory-bytes`.
    pub workers: usize,
    /// Memory for stages and uploads, in bytes; 0: 256 MiB per worker.
    pub max_memory_bytes: usize,
    /// Delay before the first retry of a failed task, in seconds. It doubles with each failure.
    pub retry_seconds: u64,
    /// Age of a task, in seconds, up to which it is retried automatically.
    pub retry_for_seconds: u64,
    /// Longest time that logs wait for an object to fill, in seconds. Caps the rule's own setting.
    pub longest_wait_seconds: u64,
    /// Retention of successful tasks, in seconds.
    pub keep_tasks_seconds: u64,
    /// Consecutive stage failures that open a rule's circuit breaker.
    pub hold_after_tasks: usize,
    /// Folder for staged objects; `spool` in the data directory by default.
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

/// Least memory of a worker, enough for JSON. A Parquet row group of 32 MB needs [`DEFAULT_WORKER_MEMORY`].
pub const MIN_WORKER_MEMORY: usize = 128 << 20;
const DEFAULT_WORKER_MEMORY: usize = 256 << 20;

/// Part of a worker's memory that is not for stages: logs being read, and parts of two objects being uploaded.
const NON_STAGE_MEMORY: usize = 64 << 20;

/// Largest memory of a stage instance.
const MAX_STAGE_MEMORY: usize = 256 << 20;

impl Shipping {
    /// Number of objects encoded concurrently.
    pub fn workers(&self) -> usize {
        let wanted = match self.workers {
            0 => available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        match self.max_memory_bytes {
            0 => wanted,
            memory => wanted.min(memory / MIN_WORKER_MEMORY).max(1),
        }
    }

    /// Memory limit of a stage instance, in bytes. An object has at most two instances.
    pub fn stage_memory(&self) -> usize {
        let share = match self.max_memory_bytes {
            0 => DEFAULT_WORKER_MEMORY,
            memory => memory / self.workers(),
        };
        (share.saturating_sub(NON_STAGE_MEMORY) / 2).min(MAX_STAGE_MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_workers_and_stages() {
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
