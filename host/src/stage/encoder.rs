use std::fmt;

use wasmtime::component::ResourceAny;

use super::{EncoderDescription as Description, Identity, StageError, introduce};
use crate::batch::LogBatch;
use crate::bindings::encoder::exports::logship::encode::encoder::Error;
use crate::bindings::encoder::{Encoder, EncoderPre};
use crate::engine::Engine;
use crate::guest::{Guest, Instance};

/// An encoder, ready to be instantiated.
pub struct EncoderStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: EncoderPre<Guest>,
}

impl EncoderStage {
    pub(super) fn new(engine: &Engine, origin: Identity, pre: EncoderPre<Guest>) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, |store| pre.instantiate(store))?;
        let description =
            instance.call(|store, encoder| encoder.logship_encode_encoder().call_describe(store))?;
        let Description { name, version, config_schema, .. } = &description;
        let identity = introduce(&origin, name, version, config_schema)?;
        Ok(Self { engine: engine.clone(), identity, description, pre })
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
    pub fn open(&self, config: &str) -> Result<EncodedObject, StageError> {
        let mut instance = Instance::new(&self.engine, &self.identity, |store| self.pre.instantiate(store))?;
        let resource = instance
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_open(store, config))?
            .map_err(|error| refusal(&self.identity, error))?;
        Ok(EncodedObject { instance, resource })
    }
}

impl fmt::Debug for EncoderStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An object being encoded. After an error it is lost.
pub struct EncodedObject {
    instance: Instance<Encoder>,
    resource: ResourceAny,
}

impl EncodedObject {
    /// Encodes the next logs; returns the object's next bytes, maybe none.
    ///
    /// # Errors
    /// What the stage refuses, or what any call may end with.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        let object = self.resource;
        self.instance
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_push(store, object, batch))?
            .map_err(|error| refusal(self.instance.stage(), error))
    }

    /// Bytes that the object would have if it were finished now, uncompressed.
    ///
    /// # Errors
    /// What any call may end with.
    pub fn size(&mut self) -> Result<u64, StageError> {
        let object = self.resource;
        self.instance
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_size(store, object))
    }

    /// Ends the object; returns its last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<u8>, StageError> {
        let object = self.resource;
        self.instance
            .call(|store, encoder| encoder.logship_encode_encoder().object().call_finish(store, object))?
            .map_err(|error| refusal(self.instance.stage(), error))
    }
}

impl fmt::Debug for EncodedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedObject of {}", self.instance.stage())
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
