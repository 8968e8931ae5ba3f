//! The guard of the clock: a clock that is set forward must not delete logs or forget put ids early.
//!
//! The guard compares the wall clock with the clock of the machine's boot, which counts the time of suspends too. After a
//! step forward of more than the bound, the store goes on with its own time, and deletes nothing, until the clock is set
//! back or an operator confirms it. A stop is no step: while the machine ran, its clock tells how long the service was
//! stopped. If the machine itself was off, nothing tells, so deletions wait until the clock has settled.

use std::sync::{Arc, Mutex, PoisonError};

use crate::moment::Moment;
use crate::options::{Clock, Options};

/// The running time after which the clock counts as right, if the machine was off for more than the bound: whatever
/// corrects a clock has done so by then. In microseconds.
const SETTLE: u64 = 3600 * 1_000_000;

/// The longest time off that needs no confirmation, in microseconds.
const MAX_OFF: u64 = 31 * 86_400 * 1_000_000;

/// The guard of the clock.
pub(crate) struct ClockGuard {
    wall: Clock,
    since_boot: Clock,
    boot: String,
    /// The largest accepted step forward, in microseconds.
    bound: u64,
    /// False if nothing expires.
    expires: bool,
    state: Mutex<State>,
}

/// All times are in microseconds.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The last reading of the clock of the boot.
    since_boot: u64,
    /// The time since the start.
    elapsed: u64,
    /// The wall clock at the start, by the lowest reading since. Steps below the bound must not add up.
    floor: i64,
    /// The wall clock at the start, by the last accepted reading.
    start: i64,
    /// How far the wall clock is ahead of the store's time, if the step is not confirmed.
    ahead: Option<u64>,
    /// The elapsed time at which the clock has settled, if the machine was off.
    settled_at: Option<u64>,
}

impl std::fmt::Debug for ClockGuard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClockGuard")
            .field("bound", &self.bound)
            .field("state", &*self.lock())
            .finish()
    }
}

impl ClockGuard {
    /// Creates a guard. `last` is the last known moment before the start.
    pub(crate) fn new(options: &Options, last: Option<&Moment>) -> Arc<Self> {
        let now = options.moment();
        let stopped = last.map(|last| now.since(last));
        let start = match (last, stopped) {
            (Some(last), Some(stopped)) => now.time.min(last.time.saturating_add(stopped.unwrap_or(0))),
            _ => now.time,
        } as i64;
        let state = State {
            since_boot: now.since_boot,
            elapsed: 0,
            floor: start,
            start,
            ahead: None,
            settled_at: None,
        };
        let Options { clock: wall, since_boot, boot, clock_step: bound, expires, .. } = options.clone();
        let guard = Arc::new(Self { wall, since_boot, boot, bound, expires, state: Mutex::new(state) });
        if stopped == Some(None) {
            guard.accept_time_off(now.time.saturating_sub(start as u64));
        }
        guard.now();
        guard
    }

    /// Accepts the time during which the machine was off, unless it is too long to be likely.
    fn accept_time_off(&self, off: u64) {
        if off > MAX_OFF {
            return;
        }
        self.confirm();
        if off > self.bound {
            let mut state = self.lock();
            state.settle(off);
        }
    }

    /// Returns the time of the store, in Unix microseconds: the wall clock, unless it was set far forward.
    pub(crate) fn now(&self) -> u64 {
        let mut state = self.lock();
        let (wall, since_boot) = ((self.wall)(), (self.since_boot)());
        state.advance(wall, since_boot, self.bound);
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
                "the clock was set forward: no expired logs are deleted until it is set back, or confirmed with `logship store confirm --clock`"
            );
        }
        now
    }

    /// Returns by how many microseconds the clock is ahead, if that is not confirmed.
    pub(crate) fn ahead(&self) -> Option<u64> {
        self.now();
        self.lock().ahead
    }

    /// Returns the running time after which the clock has settled, in microseconds, if it has not.
    pub(crate) fn settles_in(&self) -> Option<u64> {
        self.now();
        let state = self.lock();
        state.settled_at.map(|end| end.saturating_sub(state.elapsed))
    }

    /// Returns the time by which logs, deletions and put ids expire, in Unix microseconds: it follows no step of the
    /// clock forward, however small. Returns `None` if nothing expires: while the clock is not confirmed or has not settled.
    pub(crate) fn expiry_time(&self) -> Option<u64> {
        self.now();
        let state = self.lock();
        let expires = self.expires && state.ahead.is_none() && state.settled_at.is_none();
        expires.then(|| state.steady())
    }

    /// Returns the current moment, to compare with at the next start. Returns `None` while the clock has not settled: the
    /// last moment before that still counts.
    pub(crate) fn moment(&self) -> Option<Moment> {
        self.now();
        let state = self.lock();
        let moment =
            || Moment { time: state.steady(), boot: self.boot.clone(), since_boot: state.since_boot };
        state.settled_at.is_none().then(moment)
    }

    /// Accepts the wall clock as it is.
    pub(crate) fn confirm(&self) {
        let mut state = self.lock();
        let start = (self.wall)() as i64 - state.elapsed as i64;
        (state.floor, state.start, state.ahead, state.settled_at) = (start, start, None, None);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the time without any steps of the clock forward.
    fn steady(&self) -> u64 {
        (self.floor + self.elapsed as i64).max(0) as u64
    }

    /// Takes a reading of both clocks.
    fn advance(&mut self, wall: u64, since_boot: u64, bound: u64) {
        let step = since_boot.saturating_sub(self.since_boot);
        self.since_boot = since_boot;
        if step <= bound {
            self.elapsed += step;
            if self.settled_at.take_if(|end| *end <= self.elapsed).is_some() {
                tracing::info!("the clock has settled: expired logs are deleted as before");
            }
            return;
        }
        // A suspended machine takes both clocks from the same chip, so they can be wrong together.
        let wall_step = (wall as i64 - self.start).saturating_sub(self.elapsed as i64);
        if step <= MAX_OFF && wall_step.abs_diff(step as i64) <= bound {
            self.elapsed += step;
            self.settle(step);
        } else {
            self.elapsed += bound;
        }
    }

    /// Lets deletions wait, because the machine was off.
    fn settle(&mut self, off: u64) {
        self.settled_at = Some(self.elapsed + SETTLE);
        tracing::warn!(
            off_seconds = off / 1_000_000,
            "the machine was off, or its clock was set forward: expired logs are deleted again after an hour with this clock, or when it is confirmed with `logship store confirm --clock`"
        );
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
        since_boot: Arc<AtomicU64>,
        guard: Arc<ClockGuard>,
    }

    /// The clocks of a machine whose clock of the boot shows `since_boot`.
    fn options(wall: &Arc<AtomicU64>, since_boot: &Arc<AtomicU64>) -> Options {
        let clock = |time: &Arc<AtomicU64>| -> Clock {
            let time = Arc::clone(time);
            Arc::new(move || time.load(Ordering::Relaxed))
        };
        let (clock, since_boot) = (clock(wall), clock(since_boot));
        Options { clock, since_boot, boot: "b".into(), clock_step: DAY, ..Options::default() }
    }

    impl Test {
        fn new(last: Option<&Moment>) -> Self {
            let (wall, since_boot) = (Arc::new(AtomicU64::new(START)), Arc::new(AtomicU64::new(YEAR)));
            let guard = ClockGuard::new(&options(&wall, &since_boot), last);
            Self { wall, since_boot, guard }
        }

        fn pass(&self, time: u64) {
            self.wall.fetch_add(time, Ordering::Relaxed);
            self.since_boot.fetch_add(time, Ordering::Relaxed);
            self.guard.now();
        }

        fn set(&self, time: u64) {
            self.wall.store(time, Ordering::Relaxed);
        }

        /// Returns how far the time of expiry is behind the clock.
        fn expiry_behind(&self) -> Option<u64> {
            Some(self.wall.load(Ordering::Relaxed) - self.guard.expiry_time()?)
        }
    }

    /// A moment of the same boot.
    fn moment(time: u64, since_boot: u64) -> Moment {
        Moment { time, boot: "b".into(), since_boot }
    }

    /// A moment before the machine was booted.
    fn earlier_boot(time: u64) -> Moment {
        Moment { time, boot: "a".into(), since_boot: 5 }
    }

    #[test]
    fn step_forward_stops_the_clock_until_it_is_corrected_or_confirmed() {
        let test = Test::new(None);
        test.pass(HOUR);
        test.set(START + 10 * YEAR);
        assert_eq!(test.guard.now(), START + HOUR, "times never run ahead");
        assert_eq!(test.guard.ahead(), Some(10 * YEAR - HOUR));
        assert_eq!(test.guard.expiry_time(), None);
        test.pass(HOUR);
        assert_eq!(test.guard.now(), START + 2 * HOUR);
        test.set(START + 2 * HOUR);
        assert_eq!((test.guard.ahead(), test.guard.now()), (None, START + 2 * HOUR));
        test.set(START + 10 * YEAR);
        assert!(test.guard.ahead().is_some());
        test.guard.confirm();
        assert_eq!((test.guard.ahead(), test.guard.now()), (None, START + 10 * YEAR));
        assert_eq!(test.expiry_behind(), Some(0));
    }

    #[test]
    fn running_time_and_small_steps_are_accepted() {
        let test = Test::new(Some(&earlier_boot(START - DAY)));
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
    fn expiry_follows_no_step_forward_and_each_step_back() {
        let test = Test::new(None);
        test.pass(HOUR);
        test.set(START + 20 * HOUR);
        assert_eq!((test.guard.now(), test.expiry_behind()), (START + 20 * HOUR, Some(19 * HOUR)));
        // The same after a restart.
        let moment = test.guard.moment().unwrap();
        let guard = ClockGuard::new(&options(&test.wall, &test.since_boot), Some(&moment));
        let test = Test { guard, ..test };
        assert_eq!((test.guard.now(), test.expiry_behind()), (START + 20 * HOUR, Some(19 * HOUR)));
        test.set(START - HOUR);
        assert_eq!(test.expiry_behind(), Some(0));
    }

    #[test]
    fn step_while_stopped_shows() {
        let ahead = |last: Moment| {
            let guard = Test::new(Some(&last)).guard;
            (guard.ahead(), guard.settles_in())
        };
        assert_eq!(ahead(moment(START - 3 * DAY, YEAR - DAY)), (Some(2 * DAY), None), "stopped for one day");
        assert_eq!(ahead(moment(START - 9 * DAY, YEAR - 9 * DAY)), (None, None), "stopped for nine");
        assert_eq!(ahead(moment(START - DAY, YEAR)), (None, None), "the bound");
        assert_eq!(ahead(moment(START + YEAR, YEAR)), (None, None), "the clock was set back");
        let back = Test::new(Some(&moment(START + YEAR, YEAR)));
        back.set(START + YEAR);
        assert!(back.guard.ahead().is_some(), "and forward again");
    }

    #[test]
    fn clock_settles_after_the_machine_was_off() {
        let test = Test::new(Some(&earlier_boot(START - 3 * DAY)));
        assert_eq!((test.guard.ahead(), test.guard.now()), (None, START), "new logs have the right time");
        assert_eq!((test.guard.settles_in(), test.guard.expiry_time()), (Some(SETTLE), None));
        assert_eq!(test.guard.moment(), None, "a restart begins anew");
        test.pass(SETTLE - 1);
        assert_eq!(test.guard.expiry_time(), None);
        test.pass(1);
        assert_eq!((test.guard.settles_in(), test.expiry_behind()), (None, Some(0)));
        let confirmed = Test::new(Some(&earlier_boot(START - 3 * DAY)));
        confirmed.guard.confirm();
        assert_eq!((confirmed.guard.settles_in(), confirmed.expiry_behind()), (None, Some(0)));
        let years = Test::new(Some(&earlier_boot(START - 10 * YEAR)));
        assert_eq!(years.guard.ahead(), Some(10 * YEAR));
        let unknown = Moment { time: START - 3 * DAY, ..Moment::default() };
        assert_eq!(Test::new(Some(&unknown)).guard.settles_in(), Some(SETTLE), "of an older logship");
    }

    #[test]
    fn suspended_machine_needs_no_confirmation() {
        let test = Test::new(None);
        test.pass(3 * DAY);
        assert_eq!((test.guard.ahead(), test.guard.settles_in()), (None, Some(SETTLE)));
        test.pass(SETTLE);
        assert_eq!(test.expiry_behind(), Some(0));
    }

    #[test]
    fn long_step_of_both_clocks_shows() {
        let test = Test::new(None);
        test.pass(10 * YEAR);
        assert!(test.guard.ahead().is_some());
        test.pass(HOUR);
        assert!(test.guard.ahead().is_some(), "the clock of the boot does not confirm it later");
    }
}
