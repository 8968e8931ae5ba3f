//! The speed of a client that sends or receives.

use std::time::{Duration, Instant};

/// The slowest client that keeps its memory while others wait, in bytes a second.
const MIN_RATE: usize = 64 << 10;

/// The time over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// The speed of a client, over the last second or so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    since: Instant,
    bytes: usize,
    /// The time of the last progress.
    last: Instant,
    was_slow: bool,
}

impl Pace {
    pub(super) fn begin(now: Instant) -> Self {
        Self { since: now, bytes: 0, last: now, was_slow: false }
    }

    pub(super) fn progress(&mut self, bytes: usize, now: Instant) {
        if let Some(was_slow) = self.measured(now) {
            *self = Self { was_slow, ..Self::begin(now) };
        }
        self.bytes += bytes;
        self.last = now;
    }

    /// Returns true if the client is so slow that others get its memory.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        // Silence is slow, whatever came before.
        now.saturating_duration_since(self.last) >= WINDOW || self.measured(now).unwrap_or(self.was_slow)
    }

    /// Returns whether the client was slow since the window began, or none if that was just now.
    fn measured(&self, now: Instant) -> Option<bool> {
        let elapsed = now.saturating_duration_since(self.since);
        (elapsed >= WINDOW).then_some((self.bytes as f64) < MIN_RATE as f64 * elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trickling_after_a_burst_is_slow() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut pace = Pace::begin(begun);
        pace.progress(9 << 20, at(100));
        assert!(!pace.is_slow(at(1000)));
        assert!(pace.is_slow(at(1200)), "silence after a burst");
        for second in 1..5 {
            pace.progress(1, at(second * 1000 + 200));
        }
        assert!(pace.is_slow(at(4300)));
        // Silence is slow as well.
        assert!(Pace::begin(begun).is_slow(at(1000)));
    }

    #[test]
    fn steady_client_is_not_slow() {
        let begun = Instant::now();
        let mut pace = Pace::begin(begun);
        for step in 1..100 {
            let now = begun + Duration::from_millis(step * 100);
            pace.progress(16 << 10, now);
            assert!(!pace.is_slow(now), "{step}");
        }
    }
}
