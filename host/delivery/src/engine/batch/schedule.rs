//! Scheduling rules: due tasks. Pure functions without a clock; times are Unix seconds.

use logship_logstore::{Backlog, LogPosition};

/// Bytes of logs encoded to measure the expansion ratio.
pub(crate) const SAMPLE: u64 = 4 << 20;

/// Safety factor on the estimated range of a task. Logs that don't fit into the object go to the next task.
const MARGIN: f64 = 1.05;

/// The size and age of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchPolicy {
    /// The largest output, in bytes.
    pub size: u64,
    /// Longest time that logs wait for a batch to fill, in seconds.
    pub seconds: u64,
    /// Largest input of a batch, in bytes of logs.
    pub max_log_bytes: u64,
}

/// The logs of a shard that are not in a task yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ShardBacklog {
    /// Start of the next task.
    pub(super) next: LogPosition,
    /// Backlog from `next` on, as far as it was scanned.
    pub(super) measured: Backlog,
    /// Expansion ratio: object bytes / log bytes. `None` if unknown.
    pub(super) expansion_ratio: Option<f64>,
}

/// The reason for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The backlog fills an object.
    Size,
    /// The oldest log reached the rule's time limit.
    Time,
    /// The backlog is large enough to measure the expansion ratio.
    Sample,
}

impl ShardBacklog {
    /// An unscanned backlog.
    pub(super) fn from(next: LogPosition, expansion_ratio: Option<f64>) -> Self {
        Self { next, measured: Backlog { next: next.cursor, ..Backlog::default() }, expansion_ratio }
    }

    /// Bytes of logs that fill an object, by estimate.
    pub(super) fn target_bytes(&self, policy: BatchPolicy) -> u64 {
        let target_bytes = match self.expansion_ratio {
            Some(expansion_ratio) => (policy.size as f64 * MARGIN / expansion_ratio) as u64,
            None => SAMPLE.min(policy.size),
        };
        target_bytes.min(policy.max_log_bytes)
    }

    /// Adds newly scanned logs. A receive time in the future counts as `now`, since clocks may be set back.
    pub(super) fn add(&mut self, more: Backlog, now: u64) {
        self.measured.next = more.next.max(self.measured.next);
        self.measured.bytes += more.bytes;
        if more.bytes > 0 {
            self.measured.newest = more.newest;
            if self.measured.oldest == 0 {
                self.measured.oldest = more.oldest.min(now);
            }
        }
    }

    /// The reason why a task is due, if one is.
    pub(super) fn due(&self, policy: BatchPolicy, now: u64) -> Option<Due> {
        let Backlog { bytes, oldest, .. } = self.measured;
        let is_full = bytes >= self.target_bytes(policy);
        if bytes == 0 {
            None
        } else if is_full && self.expansion_ratio.is_none() {
            // Also after the time limit: the scan stopped at the sample size.
            Some(Due::Sample)
        } else if now >= oldest + policy.seconds {
            Some(Due::Time)
        } else {
            is_full.then_some(Due::Size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BatchPolicy = BatchPolicy { size: 10_000_000, seconds: 300, max_log_bytes: u64::MAX };

    fn backlog(bytes: u64, oldest: u64, expansion_ratio: Option<f64>) -> ShardBacklog {
        let mut backlog = ShardBacklog::from(LogPosition::at(7), expansion_ratio);
        backlog.add(Backlog { next: 9, bytes, oldest, newest: oldest }, u64::MAX);
        backlog
    }

    #[test]
    fn task_is_due_by_size_or_time() {
        let due = |bytes, age: u64| backlog(bytes, 1000, Some(2.0)).due(POLICY, 1000 + age);
        assert_eq!(due(5_249_999, 0), None, "half of the size at ratio 2, plus the margin");
        assert_eq!(due(5_250_000, 0), Some(Due::Size));
        assert_eq!(due(1, 299), None);
        assert_eq!(due(1, 300), Some(Due::Time));
        assert_eq!(due(0, 10_000), None, "an empty backlog is never due");
    }

    #[test]
    fn samples_expansion_ratio_before_filling_an_object() {
        assert_eq!(backlog(SAMPLE - 1, 1000, None).due(POLICY, 1000), None);
        assert_eq!(backlog(SAMPLE, 1000, None).due(POLICY, 1000), Some(Due::Sample));
        assert_eq!(backlog(SAMPLE, 1000, None).due(POLICY, 1300), Some(Due::Sample));
        assert_eq!(backlog(SAMPLE - 1, 1000, None).due(POLICY, 1300), Some(Due::Time));
    }

    #[test]
    fn task_is_due_at_max_log_bytes() {
        let policy = BatchPolicy { max_log_bytes: 6_000_000, ..POLICY };
        assert_eq!(backlog(5_999_999, 1000, Some(1.0)).due(policy, 1000), None);
        assert_eq!(backlog(6_000_000, 1000, Some(1.0)).due(policy, 1000), Some(Due::Size));
    }

    #[test]
    fn time_limit_counts_from_oldest_log() {
        let mut backlog = backlog(10, 1000, Some(1.0));
        backlog.add(Backlog { next: 12, bytes: 10, oldest: 1250, newest: 1260 }, 1260);
        assert_eq!(backlog.due(POLICY, 1299), None);
        assert_eq!(backlog.due(POLICY, 1300), Some(Due::Time));
        assert_eq!((backlog.measured.next, backlog.measured.newest), (12, 1260));
    }
}
