//! Limits of numbers. The checks and the JSON Schemas use the same constants.

use std::fmt;

/// The allowed range of a number. `Display` shows it: `0 (never) to 3600`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The least allowed value.
    pub min: u64,
    /// The greatest allowed value.
    pub max: u64,
    min_note: &'static str,
    max_note: &'static str,
}

impl Limit {
    /// Creates a limit.
    pub const fn new(min: u64, max: u64) -> Self {
        Self { min, max, min_note: "", max_note: "" }
    }

    /// Adds the meaning of the least value.
    const fn min_note(self, min_note: &'static str) -> Self {
        Self { min_note, ..self }
    }

    /// Adds the greatest value in another unit.
    const fn max_note(self, max_note: &'static str) -> Self {
        Self { max_note, ..self }
    }

    /// Returns true if the value is allowed.
    pub const fn contains(&self, value: u64) -> bool {
        self.min <= value && value <= self.max
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max, min_note, max_note } = self;
        write!(formatter, "{min}{min_note} to {max}{max_note}")
    }
}

const YEAR: u64 = 366 * 86_400;

/// `size_mb` of a rule.
pub const SIZE_MB: Limit = Limit::new(5, 256);
/// `time_seconds` of a rule.
pub const TIME_SECONDS: Limit = Limit::new(300, 900);
/// `size_mb` of a rule that writes rows.
pub const ROWS_SIZE_MB: Limit = Limit::new(1, 256);
/// `time_seconds` of a rule that writes rows to Table Store.
pub const ROWS_TIME_SECONDS: Limit = Limit::new(1, 900);
/// `time_seconds` of a rule that writes to MaxCompute, which dislikes frequent commits.
pub const MAXCOMPUTE_TIME_SECONDS: Limit = Limit::new(1, 86_400);
/// `open_partitions` of a rule.
pub const OPEN_PARTITIONS: Limit = Limit::new(1, 64);
/// The number of transformers of a rule. Each object needs an instance of each.
pub const TRANSFORMERS: Limit = Limit::new(0, 8);
/// The length of a rule's name.
pub const NAME_LENGTH: Limit = Limit::new(3, 63);

/// `limits.connections`.
pub const CONNECTIONS: Limit = Limit::new(1, 1 << 20);
/// `limits.connections-per-address`.
pub const CONNECTIONS_PER_ADDRESS: Limit = Limit::new(1, 1 << 20);
/// `limits.group-bytes`.
pub const GROUP_BYTES: Limit = Limit::new(1 << 16, 64 << 20).max_note(" (64 MiB)");
/// `limits.bodies-bytes`. A body of the largest log group must fit in, too.
pub const BODIES_BYTES: Limit = Limit::new(GROUP_BYTES.min, 1 << 32);
/// `retention.clock-step-seconds`.
pub const CLOCK_STEP_SECONDS: Limit = Limit::new(60, 31_622_400).max_note("a year");
/// `limits.idle-seconds`.
pub const IDLE_SECONDS: Limit = Limit::new(1, 86_400);
/// `limits.stall-seconds`.
pub const STALL_SECONDS: Limit = Limit::new(1, 3600);
/// `limits.consumer-groups`.
pub const CONSUMER_GROUPS: Limit = Limit::new(1, 10_000);
/// `limits.shards`.
pub const SHARDS: Limit = Limit::new(1, 4096);
/// `limits.put-ids`.
pub const PUT_IDS: Limit = Limit::new(1000, 100_000_000);

/// `deletion.undo-hours`.
pub const UNDO_HOURS: Limit = Limit::new(0, 8784).min_note(" (never)").max_note(" (a year)");

/// `shipping.workers`.
pub const WORKERS: Limit = Limit::new(0, 1024).min_note(" (one per core)");
/// `shipping.max-memory-bytes`, unless it is 0. A worker needs the least value for JSON. A Parquet row group of 32 MB
/// needs the default, 256 MiB.
pub const MAX_MEMORY_BYTES: Limit = Limit::new(128 << 20, 1 << 40);
/// `shipping.hold-after-tasks`.
pub const HOLD_AFTER_TASKS: Limit = Limit::new(1, 1000);
/// `shipping.retry-seconds`.
pub const RETRY_SECONDS: Limit = Limit::new(1, 86_400);
/// `shipping.retry-for-seconds`.
pub const RETRY_FOR_SECONDS: Limit = Limit::new(0, YEAR).max_note(" (a year)");
/// `shipping.longest-wait-seconds`.
pub const LONGEST_WAIT_SECONDS: Limit = Limit::new(1, 900);
/// `shipping.keep-tasks-seconds`.
pub const KEEP_TASKS_SECONDS: Limit = Limit::new(60, YEAR).max_note(" (a year)");
/// `stages.watch-seconds`.
pub const WATCH_SECONDS: Limit = Limit::new(0, 3600).min_note(" (never)");

/// `calls` of a function.
pub const CALLS: Limit = Limit::new(1, 1024);
/// `body-bytes` of a function. Smaller calls are not worth their overhead. The greatest value is the limit of
/// `trigger-http`.
pub const BODY_BYTES: Limit = Limit::new(64 << 10, 16 << 20);
/// `timeout-seconds` of a destination.
pub const TIMEOUT_SECONDS: Limit = Limit::new(1, 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_range_with_notes() {
        assert_eq!(SHARDS.to_string(), "1 to 4096");
        assert_eq!(WATCH_SECONDS.to_string(), "0 (never) to 3600");
        assert_eq!(RETRY_FOR_SECONDS.to_string(), "0 to 31622400 (a year)");
    }
}
