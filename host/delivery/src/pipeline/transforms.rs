//! The transformers of a rule, as a chain.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use logship_batch::batch::LogBatch;
use logship_config::rule::StageSpec;
use logship_config::stage_name::DIGEST_PREFIX;
use logship_registry::Registry;
use logship_runtime::stage::{Identity, StageError, Transformed, TransformerStage, TransformingSession};

/// The transformers of a rule, ready to be opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transforms(Arc<[Transform]>);

#[derive(Debug)]
struct Transform {
    stage: Arc<TransformerStage>,
    settings: Map<String, Value>,
    config: String,
}

/// An error of one of a rule's transformers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("transform[{index}]: {source}")]
pub struct TransformError {
    /// Index of the transformer, from 0.
    pub index: usize,
    /// The error.
    pub source: StageError,
}

impl Transforms {
    /// Loads the transformers, and lets each check its configuration. `fields` is the built-in stage
    /// `transform-fields`.
    ///
    /// # Errors
    /// For the first transformer that does not exist, or that rejects its configuration.
    pub fn new(registry: &Registry, choices: &[StageSpec]) -> Result<Self, TransformError> {
        let transform = |(index, choice): (usize, &StageSpec)| {
            Transform::new(registry, choice).map_err(|source| TransformError { index, source })
        };
        choices.iter().enumerate().map(transform).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the same transformers pinned by digest.
    pub fn pinned(&self) -> Vec<StageSpec> {
        let pinned = |transform: &Transform| StageSpec {
            name: format!("{DIGEST_PREFIX}{}", transform.stage.identity().digest()),
            settings: transform.settings.clone(),
        };
        self.0.iter().map(pinned).collect()
    }

    /// Returns the stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter().map(|transform| transform.stage.identity())
    }

    /// Opens a session of each transformer, in instances of its own.
    ///
    /// # Errors
    /// If a stage rejects its configuration, or any error of a call.
    pub fn open(&self) -> Result<Vec<TransformingSession>, StageError> {
        self.0.iter().map(|transform| transform.stage.open(&transform.config)).collect()
    }
}

impl Transform {
    fn new(registry: &Registry, choice: &StageSpec) -> Result<Self, StageError> {
        let built_in = format!("transform-{}", choice.name);
        let is_built_in = Registry::built_in().any(|known| known == built_in);
        let stage = registry.transformer(if is_built_in { &built_in } else { &choice.name })?;
        let config = Value::from(choice.settings.clone()).to_string();
        stage.open(&config)?;
        Ok(Self { stage, settings: choice.settings.clone(), config })
    }
}

/// Transforms some logs of a batch by each transformer in turn. Returns `None` without transformers.
///
/// # Errors
/// If a stage rejects a log, or any error of a call.
pub(crate) fn apply(
    sessions: &mut [TransformingSession],
    batch: &LogBatch,
    logs: Range<usize>,
) -> Result<Option<Transformed>, StageError> {
    let Some((first, others)) = sessions.split_first_mut() else { return Ok(None) };
    let is_whole = logs.len() == batch.len();
    let input = if is_whole { Cow::Borrowed(batch) } else { Cow::Owned(batch.slice(logs)) };
    let mut transformed = first.push(&input)?;
    for session in others {
        let next = session.push(&transformed.batch)?;
        transformed = Transformed { logs: compose_origins(&transformed, &next), batch: next.batch };
    }
    Ok(Some(transformed))
}

/// Maps the logs of the second transformer's output to the input of the first.
fn compose_origins(first: &Transformed, second: &Transformed) -> Vec<u32> {
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
    use logship_batch::batch::{BatchBuilder, LogGroup};

    fn transformed(count: u32, logs: &[u32]) -> Transformed {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        (0..count).for_each(|log| builder.end_log(group, log, 0));
        Transformed { batch: builder.take(), logs: logs.to_vec() }
    }

    #[test]
    fn origins_refer_to_first_transformer_input() {
        for (first, second, expected) in [
            (transformed(3, &[]), transformed(3, &[]), &[][..]),
            (transformed(3, &[]), transformed(2, &[0, 2]), &[0, 2]),
            (transformed(3, &[1, 1, 5]), transformed(3, &[]), &[1, 1, 5]),
            (transformed(3, &[1, 4, 5]), transformed(2, &[0, 2]), &[1, 5]),
            (transformed(3, &[1, 4, 5]), transformed(0, &[]), &[]),
            (transformed(0, &[]), transformed(0, &[]), &[]),
        ] {
            assert_eq!(compose_origins(&first, &second), expected);
        }
    }
}
