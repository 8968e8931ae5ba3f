use std::fmt;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use super::{CompressorDescription as Description, Ending, Identity, Kind, StageError, Tally, introduce};
use crate::bindings::compressor::exports::logship::compress::compressor::Error;
use crate::bindings::compressor::{Compressor, CompressorPre};
use crate::engine::Engine;
use crate::guest::{Guest, Instance};

/// Bytes that a compressor is given at once: what the host copies into its memory is still in the processor's cache when
/// it is read there, and there are few calls. No compressor's output depends on how its input was cut.
const PIECE: usize = 256 << 10;

/// A compressor, ready to be instantiated.
pub struct CompressorStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: CompressorPre<Guest>,
    tally: Arc<Tally>,
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
        let identity = introduce(&origin, name, version, config_schema)?;
        let tally = engine.tally(&identity, Kind::Compressor);
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

    /// Begins an object, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], or what any call may end with.
    pub fn open(&self, config: &str) -> Result<CompressedObject, StageError> {
        let mut instance = self.instance()?;
        let resource = instance.open(config)?;
        Ok(CompressedObject { instance, resource })
    }

    /// An instance from the pool, without an object.
    pub(crate) fn instance(&self) -> Result<CompressorInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.tally, |store| self.pre.instantiate(store));
        instance.map(CompressorInstance)
    }
}

impl fmt::Debug for CompressorStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a compressor: objects are made in it one after the other, or several at a time. After a
/// trap it is lost.
pub(crate) struct CompressorInstance(Instance<Compressor>);

impl CompressorInstance {
    pub(crate) fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, compressor| compressor.logship_compress_compressor().call_describe(store))
    }

    pub(crate) fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, compressor| {
                compressor.logship_compress_compressor().object().call_open(store, config)
            })?
            .map_err(|error| self.0.failed(refusal(self.0.stage(), error)))
    }

    pub(crate) fn push(&mut self, object: ResourceAny, bytes: &[u8]) -> Result<Vec<u8>, StageError> {
        let compressed = self
            .0
            .call(|store, compressor| {
                compressor.logship_compress_compressor().object().call_push(store, object, bytes)
            })?
            .map_err(|error| self.0.failed(refusal(self.0.stage(), error)))?;
        self.0.moved(bytes.len(), compressed.len());
        Ok(compressed)
    }

    pub(crate) fn finish(&mut self, object: ResourceAny) -> Result<Ending, StageError> {
        let ending = self
            .0
            .call(|store, compressor| {
                compressor.logship_compress_compressor().object().call_finish(store, object)
            })?
            .map_err(|error| self.0.failed(refusal(self.0.stage(), error)))?;
        self.0.moved(0, ending.header.len() + ending.trailer.len());
        Ok(ending)
    }

    pub(crate) fn give_up(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.0.give_up(object)
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// An object being compressed. After an error it is lost.
pub struct CompressedObject {
    instance: CompressorInstance,
    resource: ResourceAny,
}

impl CompressedObject {
    /// Compresses the object's next bytes; returns compressed ones, maybe none.
    ///
    /// # Errors
    /// What the stage refuses, or what any call may end with.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, StageError> {
        let mut pieces = bytes.chunks(PIECE);
        let mut done = self.instance.push(self.resource, pieces.next().unwrap_or_default())?;
        for piece in pieces {
            done.append(&mut self.instance.push(self.resource, piece)?);
        }
        Ok(done)
    }

    /// Ends the object: the bytes before and behind all that [`push`](Self::push) returned.
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
