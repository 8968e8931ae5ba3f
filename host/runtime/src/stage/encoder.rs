use std::fmt;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use wasmtime::component::ResourceAny;

use super::{EncoderDescription as Description, Identity, Kind, StageError, checked_identity};
use crate::bindings::encoder::exports::logship::encode::encoder::Error;
use crate::bindings::encoder::{Encoder, EncoderPre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// An encoder, ready to be instantiated.
pub struct EncoderStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: EncoderPre<Guest>,
    metrics: Arc<StageMetrics>,
}

impl EncoderStage {
    pub(super) fn new(engine: &Engine, origin: Identity, pre: EncoderPre<Guest>) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description =
            instance.call(|store, encoder| encoder.logship_encode_encoder().call_describe(store))?;
        let Description { name, version, config_schema, .. } = &description;
        let identity = checked_identity(&origin, name, version, config_schema)?;
        let metrics = engine.metrics_of(&identity, Kind::Encoder);
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

    /// Opens an object, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], or any error of a call.
    pub fn open(&self, config: &str) -> Result<EncodedObject, StageError> {
        let mut instance = self.instance()?;
        let resource = instance.open(config)?;
        Ok(EncodedObject { instance, resource })
    }

    /// Takes an instance from the pool, without an object.
    pub fn instance(&self) -> Result<EncoderInstance, StageError> {
        Instance::new(&self.engine, &self.identity, &self.metrics, |store| self.pre.instantiate(store))
            .map(EncoderInstance)
    }
}

impl fmt::Debug for EncoderStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of an encoder. It can hold several open objects. After a trap it is unusable.
pub struct EncoderInstance(Instance<Encoder>);

impl EncoderInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, encoder| encoder.logship_encode_encoder().call_describe(store))
    }

    /// Opens a resource with a configuration.
    ///
    /// # Errors
    /// If the stage rejects the configuration, traps or exceeds a limit.
    pub fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_open(store, config))?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))
    }

    /// Passes a chunk to an open resource. Returns the output for it.
    ///
    /// # Errors
    /// If the stage rejects the chunk, traps or exceeds a limit.
    pub fn push(&mut self, object: ResourceAny, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        let bytes = self
            .0
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_push(store, object, batch))?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))?;
        self.0.record_bytes(batch.bytes(), bytes.len());
        Ok(bytes)
    }

    /// Returns the uncompressed size of the output so far, in bytes.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn size(&mut self, object: ResourceAny) -> Result<u64, StageError> {
        self.0.call(|store, encoder| encoder.logship_encode_encoder().object().call_size(store, object))
    }

    /// Ends a resource. Returns the rest of the output.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn finish(&mut self, object: ResourceAny) -> Result<Vec<u8>, StageError> {
        let bytes = self
            .0
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_finish(store, object))?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))?;
        self.0.record_bytes(0, bytes.len());
        Ok(bytes)
    }

    /// Drops a resource that is not finished.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn discard(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.0.discard(object)
    }

    /// Returns the current size of the linear memory, in bytes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// An object that is being encoded. After an error it is unusable.
pub struct EncodedObject {
    instance: EncoderInstance,
    resource: ResourceAny,
}

impl EncodedObject {
    /// Encodes the next logs. Returns the object's next bytes, possibly none.
    ///
    /// # Errors
    /// If the stage rejects the logs, or any error of a call.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        self.instance.push(self.resource, batch)
    }

    /// Returns the size that the object would have if it were finished now, in bytes before compression.
    ///
    /// # Errors
    /// Any error of a call.
    pub fn size(&mut self) -> Result<u64, StageError> {
        self.instance.size(self.resource)
    }

    /// Finishes the object. Returns its last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<u8>, StageError> {
        self.instance.finish(self.resource)
    }
}

impl fmt::Debug for EncodedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedObject of {}", self.instance.0.stage())
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
        Error::TooLarge(reason) => StageError::TooLarge { stage, reason },
    }
}
