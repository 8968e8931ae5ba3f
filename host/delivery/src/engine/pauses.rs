//! Problems of rules, and the pauses that they cause.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The problem of each rule that has one, by rule number.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<i64, Pause>>);

/// The reason and duration of a rule's pause.
#[derive(Debug)]
struct Pause {
    reason: String,
    /// Earliest retry, in Unix seconds.
    until: u64,
    /// True if the circuit breaker is open: a stage fails every task. It closes when the rule or a stage changes, or
    /// a task succeeds.
    by_stage: bool,
}

impl Pauses {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Pause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses a rule until `until`, in Unix seconds. Returns true if it had no problem before, or another one.
    pub(super) fn pause(&self, rule: i64, reason: String, until: u64) -> bool {
        let before = self.lock().insert(rule, Pause { reason: reason.clone(), until, by_stage: false });
        before.is_none_or(|before| before.reason != reason)
    }

    /// Opens the circuit breaker of a rule whose stage fails every task.
    pub(super) fn open_circuit(&self, rule: i64, reason: String) {
        self.lock().insert(rule, Pause { reason, until: u64::MAX, by_stage: true });
    }

    /// Closes the circuit breaker of a rule. Returns true if it was open.
    pub(super) fn close_circuit(&self, rule: i64) -> bool {
        self.lock().extract_if(|&number, pause| number == rule && pause.by_stage).count() > 0
    }

    /// Ends the pause of a rule, unless its circuit breaker is open.
    pub(super) fn unblock(&self, rule: i64) {
        // Creating a task does not show that its stage works.
        self.lock().retain(|&number, pause| number != rule || pause.by_stage);
    }

    /// Forgets the problem of a rule that changed. An open circuit breaker stays if `keeps_circuit`.
    pub(super) fn clear(&self, rule: i64, keeps_circuit: bool) {
        self.lock().retain(|&number, pause| number != rule || (keeps_circuit && pause.by_stage));
    }

    /// Keeps the problems of some rules only.
    pub(super) fn retain(&self, keeps: impl Fn(i64) -> bool) {
        self.lock().retain(|&rule, _| keeps(rule));
    }

    /// True if a rule is paused at `now`, in Unix seconds.
    pub(super) fn is_paused(&self, rule: i64, now: u64) -> bool {
        self.lock().get(&rule).is_some_and(|pause| pause.until > now)
    }

    /// The problem of a rule.
    pub(super) fn problem(&self, rule: i64) -> Option<String> {
        self.lock().get(&rule).map(|pause| pause.reason.clone())
    }
}
