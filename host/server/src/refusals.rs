//! Limits the records of failed attempts, so that an attacker can't fill the disk through the audit log.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The length of a window, in seconds.
const WINDOW: u64 = 60;
/// The maximum number of records of a window.
const WINDOW_RECORDS: usize = 32;
/// The maximum number of records of a day, apart from the summary of each window.
const DAY_RECORDS: u32 = 5000;
const DAY: u64 = 86_400;

/// The failed attempts of the current window and day.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    window: u64,
    /// The attempts with a record, as address, operation and code.
    recorded: HashSet<String>,
    /// The number of attempts without a record.
    counted: u64,
    day: u64,
    day_records: u32,
}

impl Refusals {
    /// Returns true if an attempt gets its own record: the first of its kind in a window. The others are counted.
    pub(crate) fn admit(&self, kind: String, now: u64) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window != now / WINDOW {
            state.window = now / WINDOW;
            state.recorded.clear();
        }
        if state.day != now / DAY {
            (state.day, state.day_records) = (now / DAY, 0);
        }
        let is_full = state.recorded.len() >= WINDOW_RECORDS || state.day_records >= DAY_RECORDS;
        if is_full || !state.recorded.insert(kind) {
            state.counted += 1;
            return false;
        }
        state.day_records += 1;
        true
    }

    /// Returns the number of attempts without a record, if their window has ended.
    pub(crate) fn take_summary(&self, now: u64) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.counted == 0 || state.window == now / WINDOW {
            return None;
        }
        state.window = now / WINDOW;
        state.recorded.clear();
        Some(std::mem::take(&mut state.counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_first_of_a_kind_and_counts_the_others() {
        let refusals = Refusals::default();
        assert!(refusals.admit("a".into(), 600));
        assert!(!refusals.admit("a".into(), 659));
        assert!(refusals.admit("b".into(), 659));
        assert_eq!(refusals.take_summary(659), None);
        assert_eq!(refusals.take_summary(660), Some(1));
        assert_eq!(refusals.take_summary(720), None);
        assert!(refusals.admit("a".into(), 720));
    }

    #[test]
    fn flood_is_bounded_by_window_and_day() {
        let refusals = Refusals::default();
        let admitted = |from: u64, to: u64| {
            (from..to)
                .flat_map(|now| (0..10).map(move |n| (now, n)))
                .filter(|(now, n)| refusals.admit(format!("{now} {n}"), *now))
                .count()
        };
        assert_eq!(admitted(0, 60), WINDOW_RECORDS);
        assert_eq!(admitted(60, DAY), DAY_RECORDS as usize - WINDOW_RECORDS);
        assert!(refusals.take_summary(DAY).is_some_and(|count| count > 800_000));
        assert!(refusals.admit("tomorrow".into(), DAY));
    }
}
