use std::fmt;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use super::{CompressorDescription as Description, Ending, Identity, Kind, StageError, checked_identity};
use crate::bindings::compressor::exports::logship::compress::compressor::Error;
use crate::bindings::compressor::{Compressor, CompressorPre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// Largest push to a compressor, in bytes. Pieces of this size stay in the processor's cache after the copy
/// into the stage's memory, and need few calls. The output of a compressor does not depend on how its input
/// is cut.
const PUSH_BYTES: usize = 256 << 10;

/// A compressor, ready to be instantiated.
pub struct CompressorStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: CompressorPre<Guest>,
    metrics: Arc<StageMetrics>,
}

impl CompressorStage {
    pub(super) fn new(
        engine: &Engine,
        origin: Identity,
        pre: CompressorPre<Guest>,
    ) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description = instance
            .call(|store, compressor| compressor.logship_compress_compressor().call_describe(store))?;
        let Description { name, version, config_schema, .. } = &description;
        let identity = checked_identity(&origin, name, version, config_schema)?;
        let metrics = engine.metrics_of(&identity, Kind::Compressor);
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
    pub fn open(&self, config: &str) -> Result<CompressedObject, StageError> {
        let mut instance = self.instance()?;
        let resource = instance.open(config)?;
        Ok(CompressedObject { instance, resource })
    }

    /// Takes an instance from the pool, without an object.
    pub fn instance(&self) -> Result<CompressorInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.metrics, |store| self.pre.instantiate(store));
        instance.map(CompressorInstance)
    }
}

impl fmt::Debug for CompressorStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a compressor. It can hold several open objects. After a trap it is unusable.
pub struct CompressorInstance(Instance<Compressor>);

impl CompressorInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, compressor| compressor.logship_compress_compressor().call_describe(store))
    }

    /// Opens a resource with a configuration.
    ///
    /// # Errors
    /// If the stage rejects the configuration, traps or exceeds a limit.
    pub fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, compressor| {
                compressor.logship_compress_compressor().object().call_open(store, config)
            })?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))
    }

    /// Passes a chunk to an open resource. Returns the output for it.
    ///
    /// # Errors
    /// If the stage rejects the chunk, traps or exceeds a limit.
    pub fn push(&mut self, object: ResourceAny, bytes: &[u8]) -> Result<Vec<u8>, StageError> {
        let compressed = self
            .0
            .call(|store, compressor| {
                compressor.logship_compress_compressor().object().call_push(store, object, bytes)
            })?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))?;
        self.0.record_bytes(bytes.len(), compressed.len());
        Ok(compressed)
    }

    /// Ends a resource. Returns the rest of the output.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn finish(&mut self, object: ResourceAny) -> Result<Ending, StageError> {
        let ending = self
            .0
            .call(|store, compressor| {
                compressor.logship_compress_compressor().object().call_finish(store, object)
            })?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))?;
        self.0.record_bytes(0, ending.header.len() + ending.trailer.len());
        Ok(ending)
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

/// An object that is being compressed. After an error it is unusable.
pub struct CompressedObject {
    instance: CompressorInstance,
    resource: ResourceAny,
}

impl CompressedObject {
    /// Compresses the object's next bytes. Returns the compressed bytes so far, possibly none.
    ///
    /// # Errors
    /// If the stage rejects the bytes, or any error of a call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, StageError> {
        let mut pieces = bytes.chunks(PUSH_BYTES);
        let mut done = self.instance.push(self.resource, pieces.next().unwrap_or_default())?;
        for piece in pieces {
            done.append(&mut self.instance.push(self.resource, piece)?);
        }
        Ok(done)
    }

    /// Finishes the object. Returns the bytes that precede and follow everything that [`push`](Self::push)
    /// returned.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Ending, StageError> {
        self.instance.finish(self.resource)
    }
}

impl fmt::Debug for CompressedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompressedObject of {}", self.instance.0.stage())
    }
}

fn refusal(stage: &Identity, error: Error) -> StageError {
    let stage = stage.clone();
    match error {
        Error::InvalidConfig(problem) => {
            StageError::Config { stage, path: problem.path, reason: problem.reason }
        }
        Error::TooLarge(reason) => StageError::TooLarge { stage, reason },
    }
}
