//! Scheduling rules: due tasks and retry delays. Pure functions without a clock; times are Unix seconds.

use logship_logstore::{Backlog, LogPosition};

/// Bytes of logs encoded to measure the expansion ratio.
pub(super) const SAMPLE: u64 = 4 << 20;

/// Safety factor on the estimated range of a task. Logs that don't fit into the object go to the next task.
const MARGIN: f64 = 1.05;

/// The limits that a rule sets for its objects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchPolicy {
    /// The largest object, in bytes.
    pub(super) size: u64,
    /// Longest time that logs wait for an object to fill, in seconds.
    pub(super) seconds: u64,
    /// Largest input of an object, in bytes of logs.
    pub(super) max_log_bytes: u64,
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

/// Time of the next attempt of a task that has failed `attempts` times. The delay is `initial` seconds and doubles with
/// each failure. `None` if the attempt would be later than `retry_for` seconds after the task's creation.
pub(super) fn next_attempt(
    attempts: u32,
    created: u64,
    now: u64,
    initial: u64,
    retry_for: u64,
) -> Option<u64> {
    let wait = initial
        .checked_shl(attempts.saturating_sub(1))
        .filter(|wait| wait >> attempts.saturating_sub(1) == initial)?;
    let next = now.checked_add(wait)?;
    (next <= created.saturating_add(retry_for)).then_some(next)
}

/// Like [`next_attempt`], after a destination asked for a delay of `retry_after` seconds. That delay replaces `initial`
/// if it is shorter, and is the minimum in any case.
pub(super) fn next_attempt_after(
    retry_after: u64,
    attempts: u32,
    created: u64,
    now: u64,
    initial: u64,
    retry_for: u64,
) -> Option<u64> {
    let next = next_attempt(attempts, created, now, retry_after.clamp(1, initial), retry_for)?;
    let next = next.max(now.checked_add(retry_after)?);
    (next <= created.saturating_add(retry_for)).then_some(next)
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

    #[test]
    fn retry_delay_doubles_from_15_minutes_for_two_days() {
        let (created, mut now, mut waits) = (1_000_000, 1_000_010, vec![]);
        for attempts in 1.. {
            match next_attempt(attempts, created, now, 900, 172_800) {
                Some(next) => waits.push((next - now) / 60),
                None => break,
            }
            now += waits.last().unwrap() * 60 + 5;
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960]);
        assert!(now - created <= 172_800, "the last one is retry_for the two days");
    }

    #[test]
    fn retry_after_sets_minimum_delay() {
        let after = |retry_after, attempts| next_attempt_after(retry_after, attempts, 0, 1000, 900, 172_800);
        assert_eq!([after(7, 1), after(7, 2), after(7, 3)], [Some(1007), Some(1014), Some(1028)]);
        assert_eq!([after(3600, 1), after(0, 1)], [Some(4600), Some(1001)]);
        assert_eq!([after(200_000, 1), after(u64::MAX, 1)], [None, None]);
    }

    #[test]
    fn no_retry_after_delay_overflow() {
        for attempts in [60, 63, 64, 65, u32::MAX] {
            assert_eq!(next_attempt(attempts, 0, 10, 900, u64::MAX), None, "{attempts}");
        }
    }
}
