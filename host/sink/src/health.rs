//! The health of event sinks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The health of a receiver.
#[derive(Debug)]
pub struct Health {
    name: String,
    problem: Mutex<Option<Problem>>,
    /// The last warning, and the time at which it was logged.
    warning: Mutex<Option<(String, Instant)>>,
    retries: AtomicU64,
}

#[derive(Debug)]
struct Problem {
    message: String,
    since: Instant,
    last_logged: Instant,
}

/// Interval between log lines about the same problem.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

impl Health {
    /// Creates the health of a receiver. `name` is for logs and metrics.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            problem: Mutex::default(),
            warning: Mutex::default(),
            retries: AtomicU64::new(0),
        }
    }

    /// Returns the receiver's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of retries.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Records a success, which ends the failure.
    pub fn record_success(&self) {
        if let Some(problem) = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let seconds = problem.since.elapsed().as_secs();
            tracing::info!(receiver = self.name, seconds, "the receiver accepts events again");
        }
    }

    /// Records a failure, of the receiver or before it. It is retried after `wait`.
    pub fn record_failure(&self, message: String, wait: Duration) {
        metrics::counter!("logship_siem_retries_total", "receiver" => self.name.clone()).increment(1);
        self.retries.fetch_add(1, Ordering::Relaxed);
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = problem
            .as_ref()
            .filter(|known| known.message == message && known.last_logged.elapsed() < LOG_INTERVAL);
        let last_logged = known.map_or(now, |known| known.last_logged);
        if known.is_none() {
            tracing::warn!(receiver = self.name, problem = message, wait = ?wait, "the receiver accepts no events; retrying, nothing is dropped");
        }
        let since = problem.as_ref().map_or(now, |problem| problem.since);
        *problem = Some(Problem { message, since, last_logged });
    }

    /// Logs a warning of a receiver that accepts events. A repeated one is logged once a minute.
    pub fn record_warning(&self, message: String) {
        metrics::counter!("logship_siem_warnings_total", "receiver" => self.name.clone()).increment(1);
        let mut warning = self.warning.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known =
            |(known, logged): &(String, Instant)| *known == message && logged.elapsed() < LOG_INTERVAL;
        if !warning.as_ref().is_some_and(is_known) {
            tracing::warn!(
                receiver = self.name,
                warning = message,
                "the receiver accepts events with a warning"
            );
            *warning = Some((message, Instant::now()));
        }
    }

    /// Returns the current failure, if there is one.
    pub fn problem(&self) -> Option<String> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.as_ref().map(|problem| problem.message.clone())
    }
}
