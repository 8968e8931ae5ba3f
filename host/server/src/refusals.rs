//! Limits the records of failed attempts, so that an attacker can't fill the disk through the audit log.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The length of a window, in seconds.
const WINDOW: u64 = 60;
const DAY: u64 = 86_400;

/// The maximum number of records, apart from the summary of each window.
#[derive(Debug, Clone, Copy)]
struct Budget {
    window: usize,
    day: u32,
}

/// The budget of requests whose sender could not be authenticated.
const STRANGERS: Budget = Budget { window: 32, day: 5000 };

/// The budget of requests with a valid key.
const KEY_HOLDERS: Budget = Budget { window: 128, day: 20_000 };

/// The failed attempts of the current window and day. Strangers can't use up the records of key holders.
#[derive(Debug)]
pub(crate) struct Refusals {
    strangers: Mutex<Attempts>,
    key_holders: Mutex<Attempts>,
}

#[derive(Debug)]
struct Attempts {
    budget: Budget,
    window: u64,
    /// The attempts with a record, as address, operation and code.
    recorded: HashSet<String>,
    /// The number of attempts without a record.
    counted: u64,
    day: u64,
    day_records: u32,
}

impl Default for Refusals {
    fn default() -> Self {
        let attempts = |budget| {
            let recorded = HashSet::new();
            Mutex::new(Attempts { budget, window: 0, recorded, counted: 0, day: 0, day_records: 0 })
        };
        Self { strangers: attempts(STRANGERS), key_holders: attempts(KEY_HOLDERS) }
    }
}

impl Refusals {
    /// Returns true if an attempt gets its own record: the first of its kind in a window. The others are counted.
    pub(crate) fn admit(&self, kind: String, has_key: bool, now: u64) -> bool {
        let attempts = if has_key { &self.key_holders } else { &self.strangers };
        attempts.lock().unwrap_or_else(PoisonError::into_inner).admit(kind, now)
    }

    /// Returns the number of attempts without a record, if their window has ended.
    pub(crate) fn take_summary(&self, now: u64) -> Option<u64> {
        let take = |attempts: &Mutex<Attempts>| {
            attempts.lock().unwrap_or_else(PoisonError::into_inner).take_summary(now)
        };
        let count = take(&self.strangers) + take(&self.key_holders);
        (count > 0).then_some(count)
    }
}

impl Attempts {
    fn admit(&mut self, kind: String, now: u64) -> bool {
        self.begin_window(now);
        if self.day != now / DAY {
            (self.day, self.day_records) = (now / DAY, 0);
        }
        let is_full = self.recorded.len() >= self.budget.window || self.day_records >= self.budget.day;
        if is_full || !self.recorded.insert(kind) {
            self.counted += 1;
            return false;
        }
        self.day_records += 1;
        true
    }

    fn take_summary(&mut self, now: u64) -> u64 {
        if self.window == now / WINDOW {
            return 0;
        }
        self.begin_window(now);
        std::mem::take(&mut self.counted)
    }

    fn begin_window(&mut self, now: u64) {
        if self.window != now / WINDOW {
            self.window = now / WINDOW;
            self.recorded.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_first_of_a_kind_and_counts_the_others() {
        let refusals = Refusals::default();
        assert!(refusals.admit("a".into(), false, 600));
        assert!(!refusals.admit("a".into(), false, 659));
        assert!(refusals.admit("a".into(), true, 659), "a key holder has a budget of its own");
        assert!(refusals.admit("b".into(), false, 659));
        assert_eq!(refusals.take_summary(659), None);
        assert_eq!(refusals.take_summary(660), Some(1));
        assert_eq!(refusals.take_summary(720), None);
        assert!(refusals.admit("a".into(), false, 720));
    }

    #[test]
    fn flood_is_bounded_by_window_and_day() {
        let refusals = Refusals::default();
        let admitted = |from: u64, to: u64| {
            let attempts = (from..to).flat_map(|now| (0..10).map(move |number| (now, number)));
            attempts.filter(|(now, number)| refusals.admit(format!("{now} {number}"), false, *now)).count()
        };
        assert_eq!(admitted(0, 60), STRANGERS.window);
        assert_eq!(admitted(60, DAY), STRANGERS.day as usize - STRANGERS.window);
        assert!(refusals.admit("insider".into(), true, DAY - 1));
        assert!(refusals.take_summary(DAY).is_some_and(|count| count > 800_000));
        assert!(refusals.admit("tomorrow".into(), false, DAY));
    }
}
