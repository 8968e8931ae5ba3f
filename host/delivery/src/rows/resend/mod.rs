//! Puts dirty rows back into their table, after the user has mended what made them dirty.
//!
//! The logs are read from their Logstore again, or taken from the dead letters once they have expired there. They are
//! encoded as the rule or the job is now. Letters that are dirty again stay, with the new reason.
//!
//! - Table Store: rows have the keys that they would have had, so a repeated resend writes the same rows again.
//! - MaxCompute: rows are appended. `saved` is on disk before each request that depends on it, so that a resend that was
//!   interrupted goes on, and no row is there twice:
//!
//! | on disk | then |
//! |---|---|
//! | the session and its letters | the block is uploaded |
//! | the intent to commit | the session is committed |
//! | that it is committed | the next partition follows |
//! | the letters that are dirty again | the object of dead letters is replaced |
//!
//! - `owner`: the rule or job of dead letters. `logs`: their logs. `encode`: rows, and logs that are dirty again.
//! - `maxcompute`, `table_store`: write the rows. `step`: points at which tests abort the process.

mod encode;
mod error;
mod logs;
mod maxcompute;
mod owner;
mod saved;
mod step;
mod table_store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use logship_logstore::Store;
use logship_registry::Registry;
use tokio::runtime::Handle;

pub use self::error::ResendError;
use self::owner::Owner;
use self::saved::Saved;
use crate::dead_letter::{DeadLetter, DeadLetters, Line, Origin};
use crate::rows::TableStoreRules;
use crate::rows::jobs::Jobs;
use crate::rows::maxcompute::MaxComputeRows;

/// The time limit of a resend. Clients wait two minutes for the answer.
const TIME_LIMIT: Duration = Duration::from_secs(90);

/// Puts dirty rows back into their tables.
#[derive(Debug)]
pub struct Resender {
    store: Arc<Store>,
    registry: Registry,
    letters: Arc<DeadLetters>,
    tables: TableStoreRules,
    maxcompute: MaxComputeRows,
    jobs: Arc<Jobs>,
    runtime: Handle,
    /// One resend at a time, so that two requests do not send the same letters.
    busy: Mutex<()>,
}

/// Counts of resent dead letters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resent {
    /// Letters that are rows now.
    pub written: usize,
    /// Letters whose logs the transformers filter now.
    pub filtered: usize,
    /// Letters of logs that the rule or the job has encoded again since.
    pub superseded: usize,
    /// Letters that are dirty again.
    pub dirty: usize,
    /// The reason of the first of them.
    pub reason: Option<String>,
}

/// The result of writing the letters of an object.
#[derive(Debug, Default)]
struct Outcome {
    written: usize,
    filtered: usize,
    /// By its index, the letter of each log that is dirty again.
    dirty: BTreeMap<u32, DeadLetter>,
}

/// An object of dead letters.
#[derive(Debug)]
struct Letters {
    key: String,
    origin: Origin,
    lines: Vec<Line>,
}

impl Resender {
    /// Creates it from the parts of a service.
    pub fn new(
        store: Arc<Store>,
        registry: Registry,
        letters: DeadLetters,
        (tables, maxcompute, jobs): (TableStoreRules, MaxComputeRows, Arc<Jobs>),
        runtime: Handle,
    ) -> Self {
        let (letters, busy) = (Arc::new(letters), Mutex::default());
        Self { store, registry, letters, tables, maxcompute, jobs, runtime, busy }
    }

    /// Lists the objects of dead letters of a project. Blocks.
    ///
    /// # Errors
    /// When the destination of dead letters can't be listed.
    pub fn keys(&self, project: &str) -> Result<Vec<String>, ResendError> {
        Ok(self.letters.keys_of(project)?)
    }

    /// Writes the rows of an object of dead letters of a project. The object keeps those that are dirty again. Blocks.
    ///
    /// # Errors
    /// When the rows can't be written. The dead letters are kept then.
    pub fn resend(&self, project: &str, key: &str) -> Result<Resent, ResendError> {
        let _one = match self.busy.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(ResendError::Busy),
        };
        let deadline = Instant::now() + TIME_LIMIT;
        let letters = self.read(project, key)?;
        let saved = self.store.resend(key)?.map(|text| Saved::parse(&text)).transpose()?.unwrap_or_default();
        let written = saved.written();
        let outcome = match saved.rest {
            Some(rest) => Outcome { written: written.len(), dirty: rest, ..Outcome::default() },
            None => match owner::find(self, &letters)? {
                Owner::Superseded => {
                    self.letters.delete(key)?;
                    let superseded = letters.lines.len();
                    return Ok(Resent { superseded, ..Resent::default() });
                }
                Owner::TableStore(rule) => table_store::write(self, &letters, &rule, deadline)?,
                Owner::MaxCompute(place) => maxcompute::write(self, &letters, *place, (saved, deadline))?,
            },
        };
        self.finish(&letters, outcome)
    }

    /// Reads an object, and checks that it has logs of a project.
    fn read(&self, project: &str, key: &str) -> Result<Letters, ResendError> {
        let foreign = || ResendError::Foreign { key: key.into(), project: project.into() };
        if !self.letters.is_of(project, key) {
            return Err(foreign());
        }
        let lines = self.letters.read(key)?;
        let origin = lines.first().ok_or_else(foreign)?.origin.clone();
        if origin.project != project || lines.iter().any(|line| line.origin != origin) {
            return Err(foreign());
        }
        if lines.iter().any(|line| line.letter.fields.is_none()) {
            return Err(ResendError::Events);
        }
        Ok(Letters { key: key.into(), origin, lines })
    }

    /// Replaces an object by the letters that are dirty again.
    fn finish(&self, letters: &Letters, outcome: Outcome) -> Result<Resent, ResendError> {
        let Outcome { written, filtered, dirty } = outcome;
        let reason = dirty.values().next().map(|letter| letter.reason.clone());
        let resent = Resent { written, filtered, superseded: 0, dirty: dirty.len(), reason };
        let rest: Vec<DeadLetter> = dirty.into_values().collect();
        let now = self.store.clock() / 1_000_000;
        self.letters.replace(&letters.key, &letters.origin, now, &rest)?;
        step::ResendStep::LettersReplaced.reached();
        self.runtime.block_on(self.store.end_resend(&letters.key))?;
        Ok(resent)
    }

    /// Waits for a request, until the deadline.
    fn wait<T, E>(
        &self,
        deadline: Instant,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ResendError>
    where
        ResendError: From<E>,
    {
        let limited = async { tokio::time::timeout_at(deadline.into(), request).await };
        Ok(self.runtime.block_on(limited).map_err(|_| ResendError::Slow)??)
    }
}
