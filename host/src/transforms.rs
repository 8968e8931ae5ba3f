//! The transformers of a rule, one after the other.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::batch::LogBatch;
use crate::registry::{DIGEST, Registry};
use crate::rule::{Choice, RuleError};
use crate::stage::{Identity, StageError, Transformed, TransformerStage, TransformingSession};

/// Transformers of a rule at most: each has an instance of its own for each object.
const MOST: usize = 8;

/// The transformers of a rule, ready to be opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transforms(Arc<[Transform]>);

#[derive(Debug)]
struct Transform {
    stage: Arc<TransformerStage>,
    settings: Map<String, Value>,
    config: String,
}

/// Why a rule's transformers can't serve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("transform[{index}]: {source}")]
pub struct TransformError {
    /// Which of them, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub source: StageError,
}

impl Transforms {
    /// Finds the transformers, and has each check its configuration. `fields` is the built-in stage `transform-fields`.
    ///
    /// # Errors
    /// For the first that there is not, or that refuses its configuration.
    pub fn new(registry: &Registry, choices: &[Choice]) -> Result<Self, TransformError> {
        let transform = |(index, choice): (usize, &Choice)| {
            Transform::new(registry, choice).map_err(|source| TransformError { index, source })
        };
        choices.iter().enumerate().map(transform).collect::<Result<_, _>>().map(Self)
    }

    /// The same components as those that take part, by their digests.
    pub fn pinned(&self) -> Vec<Choice> {
        let pinned = |transform: &Transform| Choice {
            name: format!("{DIGEST}{}", transform.stage.identity().digest()),
            settings: transform.settings.clone(),
        };
        self.0.iter().map(pinned).collect()
    }

    /// The stages that take part, in order.
    pub fn stages(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter().map(|transform| transform.stage.identity())
    }

    /// Begins a run of batches, in instances of its own.
    ///
    /// # Errors
    /// What a stage refuses or ends with.
    pub fn open(&self) -> Result<Vec<TransformingSession>, StageError> {
        self.0.iter().map(|transform| transform.stage.open(&transform.config)).collect()
    }
}

impl Transform {
    fn new(registry: &Registry, choice: &Choice) -> Result<Self, StageError> {
        let built_in = format!("transform-{}", choice.name);
        let is_built_in = Registry::built_in().any(|known| known == built_in);
        let stage = registry.transformer(if is_built_in { &built_in } else { &choice.name })?;
        let config = Value::from(choice.settings.clone()).to_string();
        stage.open(&config)?;
        Ok(Self { stage, settings: choice.settings.clone(), config })
    }
}

/// Checks what can be checked of a rule's transformers without them.
///
/// # Errors
/// When there are too many.
pub(crate) fn check(choices: &[Choice]) -> Result<(), RuleError> {
    if choices.len() > MOST {
        let problem = format!("{} are too many: a rule has {MOST} at most", choices.len());
        return Err(RuleError::field("transform", problem));
    }
    Ok(())
}

/// Some logs of a batch, transformed by one after the other. None if there is no transformer: they are as they are.
///
/// # Errors
/// What a stage refuses or ends with.
pub(crate) fn apply(
    sessions: &mut [TransformingSession],
    batch: &LogBatch,
    logs: Range<usize>,
) -> Result<Option<Transformed>, StageError> {
    let Some((first, others)) = sessions.split_first_mut() else { return Ok(None) };
    let whole = logs.len() == batch.len();
    let some = if whole { Cow::Borrowed(batch) } else { Cow::Owned(batch.slice(logs)) };
    let mut made = first.push(&some)?;
    for session in others {
        let next = session.push(&made.batch)?;
        made = Transformed { logs: origins(&made, &next), batch: next.batch };
    }
    Ok(Some(made))
}

/// Which logs of what the first transformer got those of the second one are from.
fn origins(first: &Transformed, second: &Transformed) -> Vec<u32> {
    match (first.logs.is_empty(), second.logs.is_empty()) {
        (true, _) => second.logs.clone(),
        (false, true) if second.batch.is_empty() => vec![],
        (false, true) => first.logs.clone(),
        (false, false) => second.logs.iter().map(|&log| first.logs[log as usize]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, LogGroup};

    fn transformed(count: u32, logs: &[u32]) -> Transformed {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        (0..count).for_each(|log| builder.end_log(group, log, 0));
        Transformed { batch: builder.take(), logs: logs.to_vec() }
    }

    #[test]
    fn a_log_is_from_the_one_that_the_first_transformer_got() {
        for (first, second, expected) in [
            (transformed(3, &[]), transformed(3, &[]), &[][..]),
            (transformed(3, &[]), transformed(2, &[0, 2]), &[0, 2]),
            (transformed(3, &[1, 1, 5]), transformed(3, &[]), &[1, 1, 5]),
            (transformed(3, &[1, 4, 5]), transformed(2, &[0, 2]), &[1, 5]),
            (transformed(3, &[1, 4, 5]), transformed(0, &[]), &[]),
            (transformed(0, &[]), transformed(0, &[]), &[]),
        ] {
            assert_eq!(origins(&first, &second), expected);
        }
    }
}
