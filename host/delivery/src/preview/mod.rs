//! Previews: the effect of a stage swap on past tasks, before the swap.
//!
//! The logs of a task go through its original stages, and through the same stages with the new one. A preview publishes
//! and stores nothing.
//!
//! # Layout
//! - This file: requests and results. `replay`: runs tasks through both pipelines. `difference`: the first different
//!   line.
//! - `engine::preview`: the outputs that a kind of work opens. `objects::preview`, `events::preview` and
//!   `rows::table_store` do.

mod difference;
mod replay;

use std::fmt::Display;
use std::time::Instant;

use logship_config::rule::StageSpec;
use logship_logstore::{LogPosition, Logstore, ShippingRule, TaskId};
use logship_runtime::stage::Kind;

pub use self::difference::Difference;
use self::replay::Replayer;
use crate::engine::DeliveryEngine;
pub use crate::engine::preview::{Candidate, Made, PreviewError};

/// Largest number of tasks in a preview.
pub const MAX_TASKS: usize = 100;

/// Limits of a preview.
#[derive(Debug, Clone, Copy)]
pub struct PreviewLimits {
    /// Number of tasks, from the newest back.
    pub last: usize,
    /// Deadline. Tasks that are left then are reported as skipped.
    pub until: Instant,
}

/// The output of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The object key; `None` for a SIEM.
    pub object: Option<String>,
    /// The output's content; `None` if only the key can differ.
    pub made: Option<Made>,
    /// Duration, in seconds.
    pub seconds: f64,
}

/// The preview of a task.
#[derive(Debug)]
pub struct TaskPreview {
    /// The task.
    pub task: TaskId,
    /// Its shard.
    pub shard: u32,
    /// The result.
    pub result: Result<TaskComparison, SkipReason>,
}

/// The outputs of the old and the new stages, or their errors.
#[derive(Debug)]
pub struct TaskComparison {
    /// The output of the original stages.
    pub old: Result<Outcome, String>,
    /// The output with the new stage.
    pub new: Result<Outcome, String>,
    /// The first different line, if the outputs are text.
    pub difference: Option<Difference>,
    /// True if the original stages reproduced the task's stored digest; `None` if the task has no digest.
    pub reproduced: Option<bool>,
}

/// The reason why a task was skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The logs of the task were deleted.
    #[error("its logs are no more: the logstore's time to live deleted those from cursor {from} on")]
    Expired {
        /// Position of the first missing log.
        from: LogPosition,
    },
    /// The deadline passed.
    #[error("the time limit was reached before it")]
    NoTime,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// Another reason.
    #[error("{0}")]
    Other(String),
}

/// The result of a task's preview, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Same key and content.
    Same,
    /// Another key or content.
    Different,
    /// The new stage fails.
    Fails,
    /// The old stage fails and the new one does not.
    Fixes,
    /// The task was skipped.
    Skipped,
}

impl Verdict {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Fails => "fails",
            Self::Fixes => "mends",
            Self::Skipped => "untried",
        }
    }
}

impl TaskPreview {
    /// The result.
    pub fn verdict(&self) -> Verdict {
        let Ok(compared) = &self.result else { return Verdict::Skipped };
        match (&compared.old, &compared.new) {
            (_, Err(_)) => Verdict::Fails,
            (Err(_), Ok(_)) => Verdict::Fixes,
            (Ok(old), Ok(new)) if old.object == new.object && old.made == new.made => Verdict::Same,
            (Ok(_), Ok(_)) => Verdict::Different,
        }
    }
}

impl DeliveryEngine {
    /// Previews a stage in a rule: the logs of its newest tasks go through the old and the new stage. Changes nothing
    /// and delivers nothing. Blocks.
    ///
    /// # Errors
    /// When the rule has no slot for the stage, can't use it, or has no tasks yet. Errors of a task are in its result.
    pub fn preview(
        &self,
        logstore: &Logstore,
        rule: &ShippingRule,
        candidate: &Candidate,
        limits: PreviewLimits,
    ) -> Result<Vec<TaskPreview>, PreviewError> {
        let work = self.work(&rule.target).map_err(|error| refused(&rule.name, candidate, &error))?;
        let mut factory = work.preview(rule, candidate)?;
        Replayer { engine: self, limits }
            .preview_tasks(logstore, rule, &mut *factory)?
            .ok_or_else(|| PreviewError::NoTasks(rule.name.clone()))
    }
}

/// The index of the transformer that a candidate would replace.
pub(crate) fn transform_of(
    rule: &str,
    transforms: &[StageSpec],
    candidate: &Candidate,
) -> Result<usize, PreviewError> {
    let no_slot = |reason: String| no_slot(rule, candidate, reason);
    let name = candidate.stage.identity().name();
    let names = || {
        let named = |(index, choice): (usize, &StageSpec)| format!("{index} ({})", choice.name);
        transforms.iter().enumerate().map(named).collect::<Vec<_>>().join(", ")
    };
    match (candidate.transform, transforms.len()) {
        (_, 0) => Err(no_slot("it has no transformers".into())),
        (Some(index), count) if index < count => Ok(index),
        (Some(index), _) => {
            Err(no_slot(format!("it has no transformer {index}; its transformers: {}", names())))
        }
        (None, 1) => Ok(0),
        (None, _) => {
            let matches_name =
                |choice: &StageSpec| choice.name == name || format!("transform-{}", choice.name) == name;
            let mut found = transforms.iter().enumerate().filter(|(_, choice)| matches_name(choice));
            match (found.next(), found.next()) {
                (Some((index, _)), None) => Ok(index),
                _ => Err(no_slot(format!(
                    "it has several transformers, {}; select one by its number",
                    names()
                ))),
            }
        }
    }
}

/// The index of the transformer that a candidate would replace in a rule whose last stage is of the kind `last`; `None` if
/// it would replace the last stage. `stages` describes those of the rule.
pub(crate) fn replaced_stage(
    (rule, transforms): (&str, &[StageSpec]),
    candidate: &Candidate,
    last: Kind,
    stages: &str,
) -> Result<Option<usize>, PreviewError> {
    match candidate.stage.kind() {
        Kind::Transformer => transform_of(rule, transforms, candidate).map(Some),
        kind if kind != last => Err(no_slot(rule, candidate, stages)),
        _ if candidate.transform.is_some() => Err(no_slot(rule, candidate, ONLY_TRANSFORMER)),
        _ => Ok(None),
    }
}

/// The reason against another stage that is to replace a transformer by its number.
pub(crate) const ONLY_TRANSFORMER: &str = "only a transformer can replace a transformer by its number";

/// The name by which a rule looks up a transformer.
pub(crate) fn transform_name(choice: &StageSpec) -> String {
    let built_in = format!("transform-{}", choice.name);
    match logship_registry::Registry::built_in().any(|known| known == built_in) {
        true => built_in,
        false => choice.name.clone(),
    }
}

/// An error for a rule that can't use a stage.
pub(crate) fn refused(rule: &str, candidate: &Candidate, problem: &dyn Display) -> PreviewError {
    let (rule, stage) = (rule.to_owned(), candidate.stage.identity().to_string());
    PreviewError::Refused { rule, stage, problem: problem.to_string() }
}

/// An error for a rule that has no slot for a stage.
pub(crate) fn no_slot(rule: &str, candidate: &Candidate, reason: impl Into<String>) -> PreviewError {
    let (kind, stage) = (candidate.stage.kind(), candidate.stage.identity());
    let stage = format!("{} {} ({})", article(kind), kind, stage.name());
    PreviewError::NoSlot { rule: rule.to_owned(), stage, reason: reason.into() }
}

fn article(kind: Kind) -> &'static str {
    if kind == Kind::Encoder { "an" } else { "a" }
}
