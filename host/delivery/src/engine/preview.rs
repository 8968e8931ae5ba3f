//! The part of a preview that a kind of work implements: two outputs of the same logs. `crate::preview` compares them.

use std::ops::Range;

use logship_config::rule::RuleError;
use logship_logstore::{StoreError, Task};
use logship_runtime::stage::Stage;
use logship_source::shard_reader::Slice;

use crate::pipeline::Tap;

/// A stage that may replace another.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The stage.
    pub stage: Stage,
    /// Index of the transformer to replace, from 0. `None`: the only transformer, or the one with the stage's name.
    pub transform: Option<usize>,
}

/// An error of a whole preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The rule has no slot for the stage.
    #[error("rule {rule} has no place for {stage}: {reason}")]
    NoSlot {
        /// The rule.
        rule: String,
        /// The stage, and its kind.
        stage: String,
        /// The reason.
        reason: String,
    },
    /// The rule can't use the stage: a swap would be rejected, too.
    #[error("rule {rule} can't use {stage}: {problem}")]
    Refused {
        /// The rule.
        rule: String,
        /// The stage.
        stage: String,
        /// The reason.
        problem: String,
    },
    /// The rule is one that this version of logship does not ship.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The rule has no tasks.
    #[error("rule {0} has no tasks yet: put logs, wait until they are shipped, and retry")]
    NoTasks(String),
    /// A function makes the rule's objects.
    #[error(
        "rule {0} ships through a function with its own stages: build the function with the new stage, and test it where it runs"
    )]
    Function(String),
    /// The tasks of the rule have several objects each.
    #[error(
        "rule {0} partitions by the time of logs, so its tasks have several objects, and a preview compares one object: use a rule that differs only in partition_by"
    )]
    Partitioned(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder for staged objects can't be created.
    #[error("can't stage objects for a preview in {folder}: {problem}")]
    Spool {
        /// The folder.
        folder: String,
        /// The reason.
        problem: String,
    },
}

/// The content of an object, or of the messages for a SIEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Input logs.
    pub logs: u64,
    /// Output rows or messages.
    pub rows: u64,
    /// Logs filtered by transformers or the formatter.
    pub filtered: u64,
    /// Logs rejected by a stage. For a SIEM they would be dead letters.
    pub rejected: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes of the stored object or of the messages.
    pub stored_bytes: u64,
    /// SHA-256 of those bytes, in hexadecimal; empty if all logs were filtered.
    pub sha256: String,
}

/// One of the two outputs of a task.
pub trait PreviewOutput {
    /// Adds logs of a slice. Returns the end of the added logs; the output is full if some are left.
    ///
    /// # Errors
    /// When a stage fails.
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String>;

    /// Ends the output of `logs` logs. Returns its key, if it has one, and its content.
    ///
    /// # Errors
    /// When a stage fails.
    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String>;

    /// The tap of the output.
    fn tap(&self) -> Tap;
}

/// An output, or the error in opening it.
pub type OutputResult = Result<Box<dyn PreviewOutput>, String>;

/// The two outputs of a task to compare.
pub enum Outputs {
    /// Outputs of the old and the new stages.
    Built(OutputResult, OutputResult),
    /// Object keys only.
    Keys(Result<String, String>, Result<String, String>),
}

/// Opens the outputs of a rule's tasks.
pub trait OutputFactory {
    /// Opens both outputs of a task. `content` is its stored plan.
    ///
    /// # Errors
    /// The reason to skip the task.
    fn outputs(&mut self, task: &Task, content: &str) -> Result<Outputs, String>;
}
