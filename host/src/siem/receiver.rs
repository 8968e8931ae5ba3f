//! Who takes messages.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::format::Formatted;
use super::hec::{self, Hec};
use super::syslog::{self, Syslog};
use crate::stage::Transport;

/// A receiver as settings have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ReceiverConfig {
    /// Splunk's HTTP Event Collector, or what speaks as it does.
    Hec(hec::Settings),
    /// Syslog over UDP, TCP or TLS.
    Syslog(syslog::Settings),
}

impl ReceiverConfig {
    /// What carries its messages.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Hec(_) => Transport::Hec,
            Self::Syslog(_) => Transport::Syslog,
        }
    }

    /// The built-in stage that formats for it.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Hec(_) => "siem-hec",
            Self::Syslog(_) => "siem-syslog",
        }
    }

    /// Whether it has a token in it.
    pub(crate) fn has_secret(&self) -> bool {
        matches!(self, Self::Hec(settings) if !settings.token.is_empty())
    }

    /// Its files, which are relative to the settings.
    pub fn files(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Hec(settings) => settings.ca.iter_mut().collect(),
            Self::Syslog(settings) => {
                let syslog::Settings { ca, certificate, key, .. } = settings;
                [ca, certificate, key].into_iter().flatten().collect()
            }
        }
    }
}

/// Why there is no such receiver.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A setting is wrong.
    #[error("receiver: {setting}: {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl ReceiverError {
    pub(crate) fn setting(setting: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Setting { setting, problem: problem.to_string() }
    }
}

/// A message that is refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The number of its chunk.
    pub(crate) chunk: usize,
    /// Its number in the chunk.
    pub(crate) message: usize,
    /// Why, in a word.
    pub(crate) code: String,
    /// Why.
    pub(crate) reason: String,
}

/// Takes messages.
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
    /// A receiver of this name, for what it says of itself. Nothing is sent yet.
    pub fn new(name: &str, config: &ReceiverConfig) -> Result<Self, ReceiverError> {
        let kind = match config {
            ReceiverConfig::Hec(settings) => Kind::Hec(Hec::new(settings)?),
            ReceiverConfig::Syslog(settings) => Kind::Syslog(Syslog::new(settings)?),
        };
        Ok(Self { kind, health: Health::new(name) })
    }

    /// Sends messages until the receiver has all of them, however often that fails. Returns those that it refuses for
    /// good. Dropped halfway, some may have been received.
    pub(crate) async fn deliver(&self, chunks: &[Formatted]) -> Vec<Refused> {
        match &self.kind {
            Kind::Hec(hec) => hec.deliver(chunks, &self.health).await,
            Kind::Syslog(syslog) => syslog.deliver(chunks, &self.health).await,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.health.name
    }

    /// Whether loads have to come one after the other.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self.kind, Kind::Syslog(_))
    }

    /// Something on the way to it failed, and is tried again after `wait`.
    pub(crate) fn fails(&self, words: String, wait: Duration) {
        self.health.fails(words, wait);
    }

    /// Times that it took nothing.
    pub(crate) fn retries(&self) -> u64 {
        self.health.retries.load(Ordering::Relaxed)
    }

    /// What keeps it from taking messages, if it does not.
    pub fn problem(&self) -> Option<String> {
        self.health.problem()
    }
}

/// Whether a receiver takes messages, and what keeps it from it.
#[derive(Debug)]
pub(crate) struct Health {
    name: String,
    problem: Mutex<Option<Problem>>,
    retries: AtomicU64,
}

#[derive(Debug)]
struct Problem {
    words: String,
    since: Instant,
    told: Instant,
}

/// How often it is told of the same problem.
const AGAIN: Duration = Duration::from_secs(60);

impl Health {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), problem: Mutex::default(), retries: AtomicU64::new(0) }
    }

    /// Something was received.
    pub(crate) fn works(&self) {
        if let Some(problem) = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let seconds = problem.since.elapsed().as_secs();
            tracing::info!(receiver = self.name, seconds, "takes events again");
        }
    }

    /// Something was not, and is sent again after `wait`.
    pub(crate) fn fails(&self, words: String, wait: Duration) {
        metrics::counter!("logship_siem_retries_total", "receiver" => self.name.clone()).increment(1);
        self.retries.fetch_add(1, Ordering::Relaxed);
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = problem.as_ref().filter(|known| known.words == words && known.told.elapsed() < AGAIN);
        let told = known.map_or(now, |known| known.told);
        if known.is_none() {
            tracing::warn!(receiver = self.name, problem = words, wait = ?wait, "takes no events; they are kept, and sent again");
        }
        let since = problem.as_ref().map_or(now, |problem| problem.since);
        *problem = Some(Problem { words, since, told });
    }

    fn problem(&self) -> Option<String> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.as_ref().map(|problem| problem.words.clone())
    }
}
