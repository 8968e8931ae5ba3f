//! The guard of the clock: a clock that is set far forward must not delete logs.
//!
//! The guard compares the wall clock with a monotonic one, and at the start with the last known time. After a step
//! forward of more than the bound, the store goes on with its own time, and deletes nothing, until the clock is set back
//! or an operator confirms it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::options::Clock;

/// The guard of the clock.
pub(crate) struct ClockGuard {
    wall: Clock,
    uptime: Clock,
    /// The largest accepted step forward, in microseconds.
    bound: u64,
    state: Mutex<State>,
}

/// All times are in microseconds.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The last reading of the monotonic clock.
    uptime: u64,
    /// The time since the start. A step of the monotonic clock counts as the bound, as it may come with one of the wall
    /// clock.
    elapsed: u64,
    /// The wall clock at the start, by the lowest reading since. Steps below the bound must not add up.
    floor: i64,
    /// The wall clock at the start, by the last accepted reading.
    start: i64,
    /// How far the wall clock is ahead of the store's time, if the step is not confirmed.
    ahead: Option<u64>,
}

impl std::fmt::Debug for ClockGuard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClockGuard")
            .field("bound", &self.bound)
            .field("state", &self.state())
            .finish()
    }
}

impl ClockGuard {
    /// Creates a guard. `last` is the last known time before the start, in Unix microseconds.
    pub(crate) fn new(wall: Clock, uptime: Clock, bound: u64, last: Option<u64>) -> Arc<Self> {
        let start = last.map_or_else(|| wall(), |last| last.min(wall())) as i64;
        let state = State { uptime: uptime(), elapsed: 0, floor: start, start, ahead: None };
        let guard = Arc::new(Self { wall, uptime, bound, state: Mutex::new(state) });
        guard.now();
        if guard.state().ahead.is_none() {
            // The time while the store was stopped does not count as a step.
            guard.confirm();
        }
        guard
    }

    /// Returns the time of the store, in Unix microseconds: the wall clock, unless it was set far forward.
    pub(crate) fn now(&self) -> u64 {
        let mut state = self.lock();
        let (wall, uptime) = ((self.wall)(), (self.uptime)());
        state.elapsed += uptime.saturating_sub(state.uptime).min(self.bound);
        state.uptime = uptime;
        let start = wall as i64 - state.elapsed as i64;
        state.floor = state.floor.min(start);
        if start - state.floor <= self.bound as i64 {
            if state.ahead.take().is_some() {
                tracing::info!("the clock is right again: expired logs are deleted as before");
            }
            state.start = start;
            return wall;
        }
        let now = (state.start + state.elapsed as i64).max(0) as u64;
        let ahead = wall.saturating_sub(now);
        if state.ahead.replace(ahead).is_none() {
            tracing::error!(
                ahead_seconds = ahead / 1_000_000,
                "the clock was set forward, or the service was stopped for long: no expired logs are deleted until it is set back, or confirmed with `logship store confirm --clock`"
            );
        }
        now
    }

    /// Returns by how many microseconds the clock is ahead, if that is not confirmed.
    pub(crate) fn ahead(&self) -> Option<u64> {
        self.now();
        self.lock().ahead
    }

    /// Accepts the wall clock as it is.
    pub(crate) fn confirm(&self) {
        let mut state = self.lock();
        let start = (self.wall)() as i64 - state.elapsed as i64;
        (state.floor, state.start, state.ahead) = (start, start, None);
    }

    fn state(&self) -> State {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    const START: u64 = 50 * YEAR;

    struct Test {
        wall: Arc<AtomicU64>,
        uptime: Arc<AtomicU64>,
        guard: Arc<ClockGuard>,
    }

    impl Test {
        fn new(last: Option<u64>) -> Self {
            let (wall, uptime) = (Arc::new(AtomicU64::new(START)), Arc::new(AtomicU64::new(7)));
            let clock = |time: &Arc<AtomicU64>| -> Clock {
                let time = Arc::clone(time);
                Arc::new(move || time.load(Ordering::Relaxed))
            };
            let guard = ClockGuard::new(clock(&wall), clock(&uptime), DAY, last);
            Self { wall, uptime, guard }
        }

        fn pass(&self, time: u64) {
            self.wall.fetch_add(time, Ordering::Relaxed);
            self.uptime.fetch_add(time, Ordering::Relaxed);
            self.guard.now();
        }

        fn set(&self, time: u64) {
            self.wall.store(time, Ordering::Relaxed);
        }
    }

    #[test]
    fn step_forward_stops_the_clock_until_it_is_corrected_or_confirmed() {
        let test = Test::new(None);
        test.pass(HOUR);
        test.set(START + 10 * YEAR);
        assert_eq!(test.guard.now(), START + HOUR, "times never run ahead");
        assert_eq!(test.guard.ahead(), Some(10 * YEAR - HOUR));
        test.pass(HOUR);
        assert_eq!(test.guard.now(), START + 2 * HOUR);
        test.set(START + 2 * HOUR);
        assert_eq!((test.guard.ahead(), test.guard.now()), (None, START + 2 * HOUR));
        test.set(START + 10 * YEAR);
        assert!(test.guard.ahead().is_some());
        test.guard.confirm();
        assert_eq!((test.guard.ahead(), test.guard.now()), (None, START + 10 * YEAR));
    }

    #[test]
    fn running_time_and_small_steps_are_accepted() {
        let test = Test::new(Some(START - DAY));
        (0..1000).for_each(|_| test.pass(HOUR));
        test.set(START + 1000 * HOUR - HOUR);
        test.pass(HOUR);
        assert_eq!(test.guard.ahead(), None);
        // Several steps count as one.
        for _ in 0..13 {
            test.set(test.guard.now() + 2 * HOUR);
        }
        assert!(test.guard.ahead().is_some());
    }

    #[test]
    fn step_while_stopped_shows() {
        assert_eq!(Test::new(Some(START - 2 * DAY)).guard.ahead(), Some(2 * DAY));
        assert_eq!(Test::new(Some(START - DAY)).guard.ahead(), None);
        assert_eq!(Test::new(Some(START + YEAR)).guard.ahead(), None, "the clock was set back");
        let back = Test::new(Some(START + YEAR));
        back.set(START + YEAR);
        assert!(back.guard.ahead().is_some(), "and forward again");
    }

    #[test]
    fn step_of_both_clocks_shows() {
        let test = Test::new(None);
        test.pass(10 * YEAR);
        assert!(test.guard.ahead().is_some());
        test.pass(HOUR);
        assert!(test.guard.ahead().is_some(), "the monotonic clock does not confirm it later");
    }
}
