use std::fmt;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use wasmtime::component::ResourceAny;

use super::losses::{Loss, Reporting, reports_losses};
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
    reports_losses: bool,
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
        let reports_losses = reports_losses(pre.instance_pre());
        Ok(Self { engine: engine.clone(), identity, description, pre, reports_losses, metrics })
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
        let instance = Instance::new(&self.engine, &self.identity, &self.metrics, |store| {
            let pre = self.pre.instance_pre();
            Reporting::instantiate(store, pre, self.reports_losses, |store, exports| {
                Encoder::new(store, exports)
            })
        })?;
        Ok(EncoderInstance { instance, losses: vec![] })
    }
}

impl fmt::Debug for EncoderStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of an encoder. It can hold several open objects. After a trap it is unusable.
pub struct EncoderInstance {
    instance: Instance<Reporting<Encoder>>,
    losses: Vec<Loss>,
}

impl EncoderInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.instance.call(|store, stage| stage.exports.logship_encode_encoder().call_describe(store))
    }

    /// Opens a resource with a configuration.
    ///
    /// # Errors
    /// If the stage rejects the configuration, traps or exceeds a limit.
    pub fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.instance
            .call(|store, stage| stage.exports.logship_encode_encoder().object().call_open(store, config))?
            .map_err(|error| self.refusal(error))
    }

    /// Passes a chunk to an open resource. Returns the output for it.
    ///
    /// # Errors
    /// If the stage rejects the chunk, traps or exceeds a limit.
    pub fn push(&mut self, object: ResourceAny, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        let losses = &mut self.losses;
        let bytes = self
            .instance
            .call(|store, stage| {
                let encoder = stage.exports.logship_encode_encoder().object();
                let bytes = encoder.call_push(&mut *store, object, batch)?;
                stage.report(store, losses)?;
                Ok(bytes)
            })?
            .map_err(|error| self.refusal(error))?;
        self.instance.record_bytes(batch.bytes(), bytes.len());
        Ok(bytes)
    }

    /// Returns the uncompressed size of the output so far, in bytes.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn size(&mut self, object: ResourceAny) -> Result<u64, StageError> {
        self.instance
            .call(|store, stage| stage.exports.logship_encode_encoder().object().call_size(store, object))
    }

    /// Ends a resource. Returns the rest of the output.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn finish(&mut self, object: ResourceAny) -> Result<Vec<u8>, StageError> {
        let losses = &mut self.losses;
        let bytes = self
            .instance
            .call(|store, stage| {
                let encoder = stage.exports.logship_encode_encoder().object();
                let bytes = encoder.call_finish(&mut *store, object)?;
                stage.report(store, losses)?;
                Ok(bytes)
            })?
            .map_err(|error| self.refusal(error))?;
        self.instance.record_bytes(0, bytes.len());
        Ok(bytes)
    }

    /// Drops a resource that is not finished.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn discard(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.instance.discard(object)
    }

    /// Returns the values that were lost since the last call, in all objects of the instance. Empty if the stage does
    /// not report them.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    /// Returns the current size of the linear memory, in bytes.
    pub fn memory(&self) -> usize {
        self.instance.memory()
    }

    fn refusal(&self, error: Error) -> StageError {
        self.instance.record_failure(refusal(self.instance.stage(), error))
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

    /// Returns the values that were lost since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        self.instance.take_losses()
    }

    /// Finishes the object. Returns its last bytes, and the values that were lost since the last call of
    /// [`take_losses`](Self::take_losses).
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<(Vec<u8>, Vec<Loss>), StageError> {
        let bytes = self.instance.finish(self.resource)?;
        Ok((bytes, self.instance.take_losses()))
    }
}

impl fmt::Debug for EncodedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedObject of {}", self.instance.instance.stage())
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
