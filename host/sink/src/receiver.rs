//! Receivers of messages.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::events::Events;
use logship_config::receiver::ReceiverConfig;

use crate::hec::Hec;
use crate::syslog::Syslog;

/// An error in a receiver's settings.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A setting is wrong.
    #[error("receiver: {setting}: {problem}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The problem, and what is valid.
        problem: String,
    },
}

impl ReceiverError {
    pub(crate) fn setting(setting: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Setting { setting, problem: problem.to_string() }
    }
}

/// A permanently rejected message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMessage {
    /// Index of the chunk.
    pub chunk: usize,
    /// Index of the message in the chunk.
    pub message: usize,
    /// The receiver's error code.
    pub code: String,
    /// The reason.
    pub reason: String,
}

/// A receiver of messages.
#[derive(Debug)]
pub struct Receiver {
    kind: Kind,
    health: Health,
}

#[derive(Debug)]
enum Kind {
    Hec(Hec),
    Syslog(Syslog),
}

impl Receiver {
    /// Creates a receiver. `name` is for logs and metrics. Sends nothing yet.
    pub fn new(name: &str, config: &ReceiverConfig) -> Result<Self, ReceiverError> {
        let kind = match config {
            ReceiverConfig::Hec(settings) => Kind::Hec(Hec::new(settings)?),
            ReceiverConfig::Syslog(settings) => Kind::Syslog(Syslog::new(settings)?),
        };
        Ok(Self { kind, health: Health::new(name) })
    }

    /// Sends messages, with retries, until the receiver has all of them. Returns those that it rejects permanently. If
    /// the future is dropped, some messages may have been received.
    pub async fn deliver(&self, chunks: &[Events<'_>]) -> Vec<RejectedMessage> {
        match &self.kind {
            Kind::Hec(hec) => hec.deliver(chunks, &self.health).await,
            Kind::Syslog(syslog) => syslog.deliver(chunks, &self.health).await,
        }
    }

    /// The receiver's name.
    pub fn name(&self) -> &str {
        &self.health.name
    }

    /// True if batches must be sent one by one, in order.
    pub fn is_ordered(&self) -> bool {
        matches!(self.kind, Kind::Syslog(_))
    }

    /// Records a failure before the receiver, such as of a stage. It is retried after `wait`.
    pub fn record_failure(&self, message: String, wait: Duration) {
        self.health.record_failure(message, wait);
    }

    /// Number of retries.
    pub fn retries(&self) -> u64 {
        self.health.retries.load(Ordering::Relaxed)
    }

    /// The current failure, if there is one.
    pub fn problem(&self) -> Option<String> {
        self.health.problem()
    }
}

/// The health of a receiver.
#[derive(Debug)]
pub(crate) struct Health {
    name: String,
    problem: Mutex<Option<Problem>>,
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
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), problem: Mutex::default(), retries: AtomicU64::new(0) }
    }

    /// Records a success.
    pub(crate) fn record_success(&self) {
        if let Some(problem) = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let seconds = problem.since.elapsed().as_secs();
            tracing::info!(receiver = self.name, seconds, "the receiver accepts events again");
        }
    }

    /// Records a failure that is retried after `wait`.
    pub(crate) fn record_failure(&self, message: String, wait: Duration) {
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

    fn problem(&self) -> Option<String> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.as_ref().map(|problem| problem.message.clone())
    }
}
