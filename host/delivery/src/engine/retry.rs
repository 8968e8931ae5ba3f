//! Retry delays. Pure functions without a clock; times are Unix seconds.

/// The delays between the attempts of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// Delay before the first retry, in seconds. It doubles with each failure.
    pub(crate) initial: u64,
    /// Age of a task up to which it is retried, in seconds.
    pub(crate) retry_for: u64,
}

impl RetryPolicy {
    /// Time of the next attempt of a task that was created at `created` and has failed `attempts` times. `retry_after` is
    /// the delay that the destination asked for. `None` if the task is too old.
    pub(crate) fn next(self, retry_after: Option<u64>, attempts: u32, created: u64, now: u64) -> Option<u64> {
        let Self { initial, retry_for } = self;
        match retry_after {
            None => next_attempt(attempts, created, now, initial, retry_for),
            Some(retry_after) => next_attempt_after(retry_after, attempts, created, now, initial, retry_for),
        }
    }
}

/// Time of the next attempt of a task that has failed `attempts` times. The delay is `initial` seconds and doubles with
/// each failure. `None` if the attempt would be later than `retry_for` seconds after the task's creation.
fn next_attempt(attempts: u32, created: u64, now: u64, initial: u64, retry_for: u64) -> Option<u64> {
    let wait = initial
        .checked_shl(attempts.saturating_sub(1))
        .filter(|wait| wait >> attempts.saturating_sub(1) == initial)?;
    let next = now.checked_add(wait)?;
    (next <= created.saturating_add(retry_for)).then_some(next)
}

/// Like [`next_attempt`], after a destination asked for a delay of `retry_after` seconds. That delay replaces `initial`
/// if it is shorter, and is the minimum in any case.
fn next_attempt_after(
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
