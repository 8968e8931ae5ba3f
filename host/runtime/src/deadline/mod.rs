//! Deadlines of calls, in CPU time.
//!
//! A deadline limits the CPU time of the calling thread, not the time on the wall: a process that is stopped, throttled
//! or beside busy neighbours fails no healthy stage. A call also ends after [a generous number of
//! ticks](WALL_FACTOR), in case a thread's clock stands still.
//!
//! | mode | mechanism | cost |
//! |---|---|---|
//! | epoch | Each loop and function of the component checks a counter of wasmtime, which grows with each tick. | a fifth to a third of the component's speed |
//! | signal | A [`watcher`] thread sends a signal to the thread of an overdue call, whose handler diverts it to a trap. | none |

pub(crate) mod watcher;

mod signal;

use std::time::Duration;

use logship_wasm::ticker::{TICK, ticks};

pub(crate) use signal::unblock_traps;

/// A call ends after this many times its deadline, whatever CPU time it used. Ticks measure this time, and a process
/// that is stopped does not tick.
const WALL_FACTOR: u32 = 30;

/// Minimum of the wall time of a call.
const MIN_WALL: Duration = Duration::from_secs(60);

/// The end of a call on a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// The thread's CPU time at the deadline. `None` if there is no deadline.
    cpu: Option<Duration>,
    /// The ticks at the latest end.
    ticks: u64,
}

impl Deadline {
    /// Begins a call of the thread whose CPU time this is.
    pub(crate) fn begin(limit: Duration, cpu_time: Duration) -> Self {
        let wall = limit.saturating_mul(WALL_FACTOR).max(MIN_WALL);
        Self { cpu: cpu_time.checked_add(limit), ticks: ticks().saturating_add(to_ticks(wall)) }
    }

    /// Returns the number of ticks before the call can be overdue. `None` if it is overdue.
    pub(crate) fn remaining_ticks(&self, cpu_time: Duration) -> Option<u64> {
        let wall = self.ticks.saturating_sub(ticks());
        let cpu = match self.cpu {
            Some(end) => to_ticks(end.saturating_sub(cpu_time)),
            None => u64::MAX >> 1,
        };
        Some(wall.min(cpu)).filter(|remaining| *remaining > 0)
    }
}

/// Rounds up to ticks.
fn to_ticks(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(TICK.as_nanos()).try_into().unwrap_or(u64::MAX >> 1)
}

/// Returns the CPU time of this thread.
pub(crate) fn thread_cpu_time() -> Duration {
    cpu_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the time of a CPU clock. Zero if the system doesn't have it.
fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the valid timespec only.
    match unsafe { libc::clock_gettime(clock, &mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_counts_cpu_time() {
        let second = Duration::from_secs(1);
        let deadline = Deadline::begin(second, 5 * second);
        assert_eq!(deadline.remaining_ticks(5 * second), Some(100));
        assert_eq!(deadline.remaining_ticks(Duration::from_millis(5999)), Some(1));
        assert_eq!(deadline.remaining_ticks(6 * second), None);
        assert_eq!(deadline.remaining_ticks(9 * second), None);
    }

    #[test]
    fn overflowing_limit_means_no_deadline() {
        let deadline = Deadline::begin(Duration::MAX, Duration::from_secs(1));
        assert!(deadline.remaining_ticks(Duration::from_secs(1 << 30)).is_some());
    }

    #[test]
    fn cpu_time_stands_still_while_a_thread_sleeps() {
        let begin = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(100));
        assert!(thread_cpu_time() - begin < Duration::from_millis(50));
        while thread_cpu_time() == begin {
            std::hint::spin_loop();
        }
    }
}
