//! Detects answers that stall between their head and their end.
//!
//! A host without TCP_NODELAY, such as Spin, holds back the second segment of an answer until the first is acknowledged.
//! The acknowledgement is delayed by 40 ms on Linux, up to 200 ms elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Larger bodies have several segments, and don't stall.
const SMALL_BODY: usize = 16 << 10;

/// The delays of acknowledgements.
const STALL: std::ops::Range<Duration> = Duration::from_millis(30)..Duration::from_millis(300);

/// The answers that are looked at.
const WINDOW: usize = 16;

/// The time between warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(3600);

/// The last small answers.
#[derive(Debug, Default)]
pub(super) struct Stalls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The times between head and end.
    times: VecDeque<Duration>,
    warned: Option<Instant>,
}

impl Stalls {
    /// Records the time between head and end of an answer. Returns the median time of stalls if a warning is due: at
    /// least half of the last answers stalled.
    pub(super) fn record(&self, body_bytes: usize, time: Duration) -> Option<Duration> {
        if body_bytes > SMALL_BODY {
            return None;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.times.push_back(time);
        if state.times.len() <= WINDOW {
            return None;
        }
        state.times.pop_front();
        let mut stalls: Vec<_> = state.times.iter().copied().filter(|time| STALL.contains(time)).collect();
        let is_due = state.warned.is_none_or(|warned| warned.elapsed() > WARNING_INTERVAL);
        if stalls.len() * 2 < WINDOW || !is_due {
            return None;
        }
        state.warned = Some(Instant::now());
        stalls.sort_unstable();
        Some(stalls[stalls.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stalls: &Stalls, milliseconds: u64, count: usize) -> Vec<u128> {
        let times = std::iter::repeat_n(Duration::from_millis(milliseconds), count);
        times.filter_map(|time| stalls.record(100, time)).map(|time| time.as_millis()).collect()
    }

    #[test]
    fn warns_once_of_stalls() {
        let stalls = Stalls::default();
        assert_eq!(record(&stalls, 41, 100), [41]);
    }

    #[test]
    fn single_stalls_are_normal() {
        let stalls = Stalls::default();
        for _ in 0..100 {
            assert!(record(&stalls, 1, 2).is_empty());
            assert!(record(&stalls, 41, 1).is_empty());
        }
    }

    #[test]
    fn slow_and_large_answers_are_no_stalls() {
        let stalls = Stalls::default();
        assert!(record(&stalls, 5000, 100).is_empty());
        let large = (0..100).filter_map(|_| stalls.record(1 << 20, Duration::from_millis(41)));
        assert_eq!(large.count(), 0);
    }
}
