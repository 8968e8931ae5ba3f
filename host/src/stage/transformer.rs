use std::fmt;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use super::{
    Identity, Kind, StageError, Tally, Transformed, TransformerDescription as Description, introduce,
};
use crate::batch::LogBatch;
use crate::bindings::transformer::exports::logship::transform::transformer::Error;
use crate::bindings::transformer::{Transformer, TransformerPre};
use crate::engine::Engine;
use crate::guest::{Guest, Instance};

/// A transformer, ready to be instantiated.
pub struct TransformerStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: TransformerPre<Guest>,
    tally: Arc<Tally>,
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
        let identity = introduce(&origin, name, version, config_schema)?;
        let tally = engine.tally(&identity, Kind::Transformer);
        Ok(Self { engine: engine.clone(), identity, description, pre, tally })
    }

    /// Which component it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Begins a session, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], or what any call may end with.
    pub fn open(self: &Arc<Self>, config: &str) -> Result<TransformingSession, StageError> {
        let (stage, config) = (Arc::clone(self), config.to_owned());
        let mut instance = self.instance()?;
        let resource = instance.open(&config)?;
        let memory = instance.memory();
        Ok(TransformingSession { stage, config, instance, resource, memory })
    }

    /// An instance from the pool, without a session.
    pub(crate) fn instance(&self) -> Result<TransformerInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.tally, |store| self.pre.instantiate(store));
        instance.map(TransformerInstance)
    }
}

impl fmt::Debug for TransformerStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a transformer: sessions are held in it one after the other, or several at a time. After a
/// trap it is lost.
pub(crate) struct TransformerInstance(Instance<Transformer>);

impl TransformerInstance {
    pub(crate) fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, transformer| transformer.logship_transform_transformer().call_describe(store))
    }

    pub(crate) fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, transformer| {
                transformer.logship_transform_transformer().session().call_open(store, config)
            })?
            .map_err(|error| self.0.failed(refusal(self.0.stage(), error)))
    }

    pub(crate) fn push(&mut self, session: ResourceAny, batch: &LogBatch) -> Result<Transformed, StageError> {
        let transformed = self
            .0
            .call(|store, transformer| {
                transformer.logship_transform_transformer().session().call_push(store, session, batch)
            })?
            .map_err(|error| self.0.failed(refusal(self.0.stage(), error)))?;
        match problem(&transformed, batch.len()) {
            None => {
                self.0.moved(batch.bytes(), transformed.batch.bytes());
                Ok(transformed)
            }
            Some(what) => Err(self.0.failed(StageError::Transformed { stage: self.0.stage().clone(), what })),
        }
    }

    pub(crate) fn give_up(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.0.give_up(session)
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// A run of batches under one configuration. After a trap it is lost; after a refusal it goes on. It moves to another
/// instance when its own is worn: the contract lets a session begin anew between any two batches.
pub struct TransformingSession {
    stage: Arc<TransformerStage>,
    config: String,
    instance: TransformerInstance,
    resource: ResourceAny,
    /// Bytes of memory that the instance began with.
    memory: usize,
}

impl TransformingSession {
    /// Transforms the logs of a batch. What comes out keeps the invariants of batches.
    ///
    /// # Errors
    /// What the stage refuses, [`StageError::Transformed`] for what breaks the contract, or what any call may end with.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Transformed, StageError> {
        if self.instance.0.is_worn(self.memory) {
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

/// What of the contract that breaks which came of a batch of so many logs.
fn problem(transformed: &Transformed, logs: usize) -> Option<&'static str> {
    let Transformed { batch, logs: origins } = transformed;
    if let Err(broken) = batch.check() {
        return Some(broken);
    }
    match origins.last() {
        None if !batch.is_empty() && batch.len() != logs => {
            Some("logs are not as many as went in, and it does not say which they are")
        }
        None => None,
        Some(_) if origins.len() != batch.len() => Some("list of logs is not as long as the batch"),
        Some(&last) if !origins.is_sorted() || last as usize >= logs => {
            Some("list of logs falls, or has one that did not go in")
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
    use crate::batch::{BatchBuilder, LogGroup};

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
    fn logs_that_can_not_be_are_refused() {
        for (lawful, found, origins, logs) in [
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
            assert_eq!(problem(&transformed, logs).is_none(), lawful, "{found} logs {origins:?} of {logs}");
        }
        let mut batch = of_logs(2);
        batch.keys.push("key".into());
        let twice = problem(&Transformed { batch, logs: vec![] }, 2);
        assert_eq!(twice, Some("keys has one twice"));
    }
}
