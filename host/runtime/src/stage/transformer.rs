use std::fmt;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use wasmtime::component::ResourceAny;

use super::{
    Identity, Kind, StageError, Transformed, TransformerDescription as Description, checked_identity,
};
use crate::bindings::transformer::exports::logship::transform::transformer::Error;
use crate::bindings::transformer::{Transformer, TransformerPre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// A transformer, ready to be instantiated.
pub struct TransformerStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: TransformerPre<Guest>,
    metrics: Arc<StageMetrics>,
}

impl TransformerStage {
    pub(super) fn new(
        engine: &Engine,
        origin: Identity,
        pre: TransformerPre<Guest>,
    ) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description = instance
            .call(|store, transformer| transformer.logship_transform_transformer().call_describe(store))?;
        let Description { name, version, config_schema } = &description;
        let identity = checked_identity(&origin, name, version, config_schema)?;
        let metrics = engine.metrics_of(&identity, Kind::Transformer);
        Ok(Self { engine: engine.clone(), identity, description, pre, metrics })
    }

    /// Returns the identity of the component.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the stage's description of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Opens a session, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], or any error of a call.
    pub fn open(self: &Arc<Self>, config: &str) -> Result<TransformingSession, StageError> {
        let (stage, config) = (Arc::clone(self), config.to_owned());
        let mut instance = self.instance()?;
        let resource = instance.open(&config)?;
        let memory = instance.memory();
        Ok(TransformingSession { stage, config, instance, resource, memory })
    }

    /// Takes an instance from the pool, without a session.
    pub fn instance(&self) -> Result<TransformerInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.metrics, |store| self.pre.instantiate(store));
        instance.map(TransformerInstance)
    }
}

impl fmt::Debug for TransformerStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a transformer. It can hold several open sessions. After a trap it is unusable.
pub struct TransformerInstance(Instance<Transformer>);

impl TransformerInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, transformer| transformer.logship_transform_transformer().call_describe(store))
    }

    /// Opens a resource with a configuration.
    ///
    /// # Errors
    /// If the stage rejects the configuration, traps or exceeds a limit.
    pub fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, transformer| {
                transformer.logship_transform_transformer().session().call_open(store, config)
            })?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))
    }

    /// Passes a chunk to an open resource. Returns the output for it, with its reserved fields renamed.
    ///
    /// # Errors
    /// If the stage rejects the chunk, traps or exceeds a limit.
    pub fn push(&mut self, session: ResourceAny, batch: &LogBatch) -> Result<Transformed, StageError> {
        let mut transformed = self
            .0
            .call(|store, transformer| {
                transformer.logship_transform_transformer().session().call_push(store, session, batch)
            })?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))?;
        match problem(&transformed, batch.len()) {
            None => {
                self.0.record_bytes(batch.bytes(), transformed.batch.bytes());
                transformed.batch.rename_reserved_fields();
                Ok(transformed)
            }
            Some(what) => {
                Err(self.0.record_failure(StageError::Transformed { stage: self.0.stage().clone(), what }))
            }
        }
    }

    /// Drops a resource that is not finished.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn discard(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.0.discard(session)
    }

    /// Returns the current size of the linear memory, in bytes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// A sequence of batches under one configuration. It survives a rejection, but not a trap. It moves to a new
/// instance when the old one has to be recycled: the contract allows a restart between any two batches.
pub struct TransformingSession {
    stage: Arc<TransformerStage>,
    config: String,
    instance: TransformerInstance,
    resource: ResourceAny,
    /// Memory of the instance at its start, in bytes.
    memory: usize,
}

impl TransformingSession {
    /// Transforms the logs of a batch. The result is a valid batch.
    ///
    /// # Errors
    /// If the stage rejects a log, [`StageError::Transformed`] if its answer violates the contract, or any
    /// error of a call.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Transformed, StageError> {
        if self.instance.0.should_recycle(self.memory) {
            *self = self.stage.open(&self.config)?;
        }
        self.instance.push(self.resource, batch)
    }
}

impl fmt::Debug for TransformingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransformingSession of {}", self.instance.0.stage())
    }
}

/// Returns the violation of the contract by the answer to a batch of `logs` logs, if any.
fn problem(transformed: &Transformed, logs: usize) -> Option<&'static str> {
    let Transformed { batch, logs: origins } = transformed;
    if let Err(broken) = batch.check() {
        return Some(broken);
    }
    match origins.last() {
        None if !batch.is_empty() && batch.len() != logs => {
            Some("the number of logs changed, and `logs` does not map them to the input")
        }
        None => None,
        Some(_) if origins.len() != batch.len() => Some("`logs` and the batch differ in length"),
        Some(&last) if !origins.is_sorted() || last as usize >= logs => {
            Some("`logs` is not sorted, or has an index outside the input")
        }
        Some(_) => None,
    }
}

fn refusal(stage: &Identity, error: Error) -> StageError {
    let stage = stage.clone();
    match error {
        Error::InvalidConfig(problem) => {
            StageError::Config { stage, path: problem.path, reason: problem.reason }
        }
        Error::InvalidBatch(invariant) => StageError::InvalidBatch { stage, invariant },
        Error::Rejected(rejection) => {
            StageError::Rejected { stage, log: rejection.log, reason: rejection.reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logship_batch::batch::{BatchBuilder, LogGroup};

    fn of_logs(count: u32) -> LogBatch {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: "t".into(), source: String::new(), tags: vec![] });
        for log in 0..count {
            builder.field("key", b"value");
            builder.end_log(group, log, 0);
        }
        builder.take()
    }

    #[test]
    fn rejects_invalid_transformed_batch() {
        for (valid, found, origins, logs) in [
            (true, 2, &[][..], 2),
            (true, 0, &[], 2),
            (true, 2, &[0, 4], 5),
            (true, 3, &[1, 1, 4], 5),
            (false, 2, &[], 3),
            (false, 2, &[4, 0], 5),
            (false, 2, &[0, 5], 5),
            (false, 2, &[0], 5),
            (false, 0, &[0], 5),
        ] {
            let transformed = Transformed { batch: of_logs(found), logs: origins.to_vec() };
            assert_eq!(problem(&transformed, logs).is_none(), valid, "{found} logs {origins:?} of {logs}");
        }
        let mut batch = of_logs(2);
        batch.keys.push("key".into());
        let twice = problem(&Transformed { batch, logs: vec![] }, 2);
        assert_eq!(twice, Some("keys contains a duplicate"));
    }
}
