//! Settings of shipping: resource limits and times.

use std::path::PathBuf;
use std::thread::available_parallelism;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ConfigError, within};
use crate::limit::{
    HOLD_AFTER_TASKS, KEEP_TASKS_SECONDS, LONGEST_WAIT_SECONDS, MAX_MEMORY_BYTES, RETRY_FOR_SECONDS,
    RETRY_SECONDS, WORKERS,
};

/// Shipping: resource limits, retries and times.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shipping {
    /// The number of objects that are encoded concurrently. 0: one per core, as far as `max-memory-bytes` allows.
    #[schemars(range(min = WORKERS.min, max = WORKERS.max))]
    pub workers: usize,
    /// The memory for stages and uploads, in bytes: at least 134217728 (128 MiB). 0: 256 MiB per worker. It limits the
    /// workers to one per 128 MiB.
    #[schemars(range(max = MAX_MEMORY_BYTES.max))]
    pub max_memory_bytes: usize,
    /// The delay before the first retry of a failed task, in seconds. It doubles with each failure.
    #[schemars(range(min = RETRY_SECONDS.min, max = RETRY_SECONDS.max))]
    pub retry_seconds: u64,
    /// The age of a task, in seconds, up to which the service retries it. Older tasks are retried only on request.
    #[schemars(range(min = RETRY_FOR_SECONDS.min, max = RETRY_FOR_SECONDS.max))]
    pub retry_for_seconds: u64,
    /// The longest time that logs wait for an object to fill, in seconds. It caps the `time_seconds` of rules.
    #[schemars(range(min = LONGEST_WAIT_SECONDS.min, max = LONGEST_WAIT_SECONDS.max))]
    pub longest_wait_seconds: u64,
    /// The retention of successful tasks in the task list, in seconds.
    #[schemars(range(min = KEEP_TASKS_SECONDS.min, max = KEEP_TASKS_SECONDS.max))]
    pub keep_tasks_seconds: u64,
    /// The number of consecutive stage failures that open a rule's circuit breaker.
    #[schemars(range(min = HOLD_AFTER_TASKS.min, max = HOLD_AFTER_TASKS.max))]
    pub hold_after_tasks: usize,
    /// The directory of staged objects. Default: `spool` in the data directory.
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
const MIN_WORKER_MEMORY: usize = MAX_MEMORY_BYTES.min as usize;
const DEFAULT_WORKER_MEMORY: usize = 256 << 20;

/// Part of a worker's memory that is not for stages: logs being read, and parts of two objects being uploaded.
const NON_STAGE_MEMORY: usize = 64 << 20;

/// Largest memory of a stage instance.
const MAX_STAGE_MEMORY: usize = 256 << 20;

impl Shipping {
    /// Checks the ranges of values.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("shipping.workers", self.workers as u64, WORKERS)?;
        let memory = self.max_memory_bytes as u64;
        if memory != 0 && !MAX_MEMORY_BYTES.contains(memory) {
            let min = MAX_MEMORY_BYTES.min;
            let allowed = format!("{min} (128 MiB) or more, or 0 for 256 MiB per worker");
            return Err(ConfigError::Range { name: "shipping.max-memory-bytes", value: memory, allowed });
        }
        within("shipping.hold-after-tasks", self.hold_after_tasks as u64, HOLD_AFTER_TASKS)?;
        within("shipping.retry-seconds", self.retry_seconds, RETRY_SECONDS)?;
        within("shipping.retry-for-seconds", self.retry_for_seconds, RETRY_FOR_SECONDS)?;
        within("shipping.longest-wait-seconds", self.longest_wait_seconds, LONGEST_WAIT_SECONDS)?;
        within("shipping.keep-tasks-seconds", self.keep_tasks_seconds, KEEP_TASKS_SECONDS)
    }

    /// Returns the number of objects that are encoded concurrently.
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

    /// Returns the memory limit of a stage instance, in bytes. An object has at most two instances.
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
