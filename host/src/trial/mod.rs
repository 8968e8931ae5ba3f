//! Trials: what would change if a stage took the place of another, seen on tasks that are done, before anything is
//! swapped.
//!
//! The logs of a task go through the stages that it was made with, and beside them through the same with the new one.
//! Nothing of it goes to a destination, and nothing is written down.
//!
//! # Layout
//! - This file: what is asked, and what came of it. `replay`: tasks, one after the other. `difference`: the first line
//!   that differs.
//! - What makes the objects of a rule, and the messages of one for a SIEM, is beside what does so for real:
//!   `shipping/trial.rs`, `siem/trial.rs`.

pub(crate) mod difference;
pub(crate) mod replay;

use std::time::Instant;

pub use difference::Difference;
use logship_logstore::{Place, StoreError, TaskId};

use crate::rule::{Choice, RuleError};
use crate::stage::{Kind, Stage};

/// Tasks of a trial at most.
pub const MOST_TASKS: usize = 100;

/// A stage that may take the place of another.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The stage.
    pub stage: Stage,
    /// Which of the rule's transformers it would replace, from 0; none: the only one, or the one of its name.
    pub transform: Option<usize>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// So many tasks, the newest.
    pub last: usize,
    /// Until then; what is left is told of.
    pub until: Instant,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The rule has no place for the stage.
    #[error("rule {rule} has no place for {stage}: {reason}")]
    NoPlace {
        /// The rule.
        rule: String,
        /// The stage, and its kind.
        stage: String,
        /// Why not.
        reason: String,
    },
    /// The rule can't go on with the stage: a swap would be refused as well.
    #[error("rule {rule} can't go on with {stage}: {problem}")]
    Refused {
        /// The rule.
        rule: String,
        /// The stage.
        stage: String,
        /// Why.
        problem: String,
    },
    /// The rule is one that this version of logship does not ship.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// There is nothing to try it on.
    #[error("rule {0} has no tasks yet: put logs, wait until they are shipped, and try again")]
    NoTasks(String),
    /// A function makes the rule's objects.
    #[error(
        "rule {0} ships by a function, which has stages of its own: build it with the new one, and try it where it runs"
    )]
    Function(String),
    /// The tasks of the rule have several objects each.
    #[error(
        "rule {0} partitions by the time of logs, so its tasks have several objects, and a trial compares one: try it with a rule that is the same but for partition_by"
    )]
    Partitioned(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Objects can't be made for the trial.
    #[error("can't make objects for a trial in {folder}: {problem}")]
    Spool {
        /// The folder.
        folder: String,
        /// Why not.
        problem: String,
    },
}

/// What the stages made of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The key of its object; none for a SIEM.
    pub object: Option<String>,
    /// What was made; none where only the key can differ.
    pub made: Option<Made>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// An object, or the messages for a SIEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Logs of the task that went in.
    pub logs: u64,
    /// Rows, or messages, that came out.
    pub rows: u64,
    /// Logs that the transformers, or the formatter, left out.
    pub left_out: u64,
    /// Logs that a stage refused: those of a SIEM are dead letters then.
    pub refused: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes as stored, or as messages.
    pub stored_bytes: u64,
    /// SHA-256 of them, in hexadecimal; empty where no log was left.
    pub sha256: String,
}

/// What was tried on a task.
#[derive(Debug)]
pub struct Tried {
    /// The task.
    pub task: TaskId,
    /// Its shard.
    pub shard: u32,
    /// What came of it.
    pub result: Result<Compared, Untried>,
}

/// What the two made of a task, or why they made nothing.
#[derive(Debug)]
pub struct Compared {
    /// The stages that it was made with.
    pub old: Result<Outcome, String>,
    /// The same with the new one.
    pub new: Result<Outcome, String>,
    /// The first line that differs, where the logs become lines of text.
    pub difference: Option<Difference>,
    /// Whether the old stages made what they had made when the task was done; none where that is not known.
    pub reproduced: Option<bool>,
}

/// Why a task was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untried {
    /// Its logs are no more.
    #[error(
        "its logs are no more: the time to live of the logstore was over for those from cursor {from} on"
    )]
    Expired {
        /// The first that is missing.
        from: Place,
    },
    /// It took too long.
    #[error("no time was left for it")]
    NoTime,
    /// The service ends.
    #[error("the service ends")]
    Ended,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// What came of a task, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it was.
    Same,
    /// Something is not.
    Different,
    /// The new stage fails.
    Fails,
    /// The old one fails, and the new one does not.
    Mends,
    /// It was not tried.
    Untried,
}

impl Verdict {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Fails => "fails",
            Self::Mends => "mends",
            Self::Untried => "untried",
        }
    }
}

impl Tried {
    /// What came of it.
    pub fn verdict(&self) -> Verdict {
        let Ok(compared) = &self.result else { return Verdict::Untried };
        match (&compared.old, &compared.new) {
            (_, Err(_)) => Verdict::Fails,
            (Err(_), Ok(_)) => Verdict::Mends,
            (Ok(old), Ok(new)) if old.object == new.object && old.made == new.made => Verdict::Same,
            (Ok(_), Ok(_)) => Verdict::Different,
        }
    }
}

/// Which of a rule's transformers a stage would replace.
pub(crate) fn transform_of(
    rule: &str,
    transforms: &[Choice],
    candidate: &Candidate,
) -> Result<usize, TrialError> {
    let no_place = |reason: String| no_place(rule, candidate, reason);
    let name = candidate.stage.identity().name();
    let names = || {
        let named = |(index, choice): (usize, &Choice)| format!("{index} ({})", choice.name);
        transforms.iter().enumerate().map(named).collect::<Vec<_>>().join(", ")
    };
    match (candidate.transform, transforms.len()) {
        (_, 0) => Err(no_place("it has no transformers".into())),
        (Some(index), count) if index < count => Ok(index),
        (Some(index), _) => Err(no_place(format!("it has no transformer {index}; there is {}", names()))),
        (None, 1) => Ok(0),
        (None, _) => {
            let is_it = |choice: &Choice| choice.name == name || format!("transform-{}", choice.name) == name;
            let mut found = transforms.iter().enumerate().filter(|(_, choice)| is_it(choice));
            match (found.next(), found.next()) {
                (Some((index, _)), None) => Ok(index),
                _ => Err(no_place(format!(
                    "it has several transformers, {}; say which, by its number",
                    names()
                ))),
            }
        }
    }
}

/// The name that a transformer of a rule is looked up by.
pub(crate) fn transform_name(choice: &Choice) -> String {
    let built_in = format!("transform-{}", choice.name);
    match crate::registry::Registry::built_in().any(|known| known == built_in) {
        true => built_in,
        false => choice.name.clone(),
    }
}

/// A rule has no place for a stage.
pub(crate) fn no_place(rule: &str, candidate: &Candidate, reason: impl Into<String>) -> TrialError {
    let (kind, stage) = (candidate.stage.kind(), candidate.stage.identity());
    let stage = format!("{} {} ({})", article(kind), kind, stage.name());
    TrialError::NoPlace { rule: rule.to_owned(), stage, reason: reason.into() }
}

fn article(kind: Kind) -> &'static str {
    if kind == Kind::Encoder { "an" } else { "a" }
}
