use std::fmt;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use wasmtime::component::ResourceAny;

use super::losses::{Loss, Reporting, reports_losses};
use super::{Ending, Identity, Kind, PackerDescription as Description, StageError, checked_identity};
use crate::bindings::packer::exports::logship::pipeline::packer::{ConfigProblem, Error};
use crate::bindings::packer::{CompressedPipeline, CompressedPipelinePre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// An encoder and a compressor in one component, ready to be instantiated.
pub struct PackerStage {
    engine: Engine,
    encoder: Identity,
    compressor: Identity,
    description: Description,
    pre: CompressedPipelinePre<Guest>,
    reports_losses: bool,
    metrics: Arc<StageMetrics>,
}

impl PackerStage {
    pub(super) fn new(
        engine: &Engine,
        origin: Identity,
        pre: CompressedPipelinePre<Guest>,
    ) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description =
            instance.call(|store, packer| packer.logship_pipeline_packer().call_describe(store))?;
        let Description { encoder, compressor } = &description;
        let encoder = checked_identity(&origin, &encoder.name, &encoder.version, &encoder.config_schema)?;
        let compressor =
            checked_identity(&origin, &compressor.name, &compressor.version, &compressor.config_schema)?;
        let metrics = engine.metrics_of(&encoder, Kind::Pipeline);
        let reports_losses = reports_losses(pre.instance_pre());
        Ok(Self { engine: engine.clone(), encoder, compressor, description, pre, reports_losses, metrics })
    }

    /// Returns the name and version of the encoder, with the digest of the component.
    pub fn encoder(&self) -> &Identity {
        &self.encoder
    }

    /// Returns the name and version of the compressor, with the digest of the component.
    pub fn compressor(&self) -> &Identity {
        &self.compressor
    }

    /// Returns the descriptions of both stages.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Opens an object, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], or any error of a call.
    pub fn open(&self, encoder_config: &str, compressor_config: &str) -> Result<PackedObject, StageError> {
        let mut instance = self.instance()?;
        let resource = instance.open(encoder_config, compressor_config)?;
        Ok(PackedObject { instance, resource })
    }

    /// Takes an instance from the pool, without an object.
    pub fn instance(&self) -> Result<PackerInstance, StageError> {
        let instance = Instance::new(&self.engine, &self.encoder, &self.metrics, |store| {
            let pre = self.pre.instance_pre();
            Reporting::instantiate(store, pre, self.reports_losses, |store, exports| {
                CompressedPipeline::new(store, exports)
            })
        })?;
        Ok(PackerInstance { instance, compressor: self.compressor.clone(), losses: vec![] })
    }
}

impl fmt::Debug for PackerStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of both stages. It can hold several open objects. After a trap it is unusable.
pub struct PackerInstance {
    instance: Instance<Reporting<CompressedPipeline>>,
    compressor: Identity,
    losses: Vec<Loss>,
}

impl PackerInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.instance.call(|store, stage| stage.exports.logship_pipeline_packer().call_describe(store))
    }

    /// Opens a resource with a configuration.
    ///
    /// # Errors
    /// If the stage rejects the configuration, traps or exceeds a limit.
    pub fn open(&mut self, encoder_config: &str, compressor_config: &str) -> Result<ResourceAny, StageError> {
        self.instance
            .call(|store, stage| {
                let object = stage.exports.logship_pipeline_packer().object();
                object.call_open(store, encoder_config, compressor_config)
            })?
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
                let packer = stage.exports.logship_pipeline_packer().object();
                let bytes = packer.call_push(&mut *store, object, batch)?;
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
            .call(|store, stage| stage.exports.logship_pipeline_packer().object().call_size(store, object))
    }

    /// Ends a resource. Returns the rest of the output.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn finish(&mut self, object: ResourceAny) -> Result<(Ending, u64), StageError> {
        let losses = &mut self.losses;
        let ending = self
            .instance
            .call(|store, stage| {
                let packer = stage.exports.logship_pipeline_packer().object();
                let ending = packer.call_finish(&mut *store, object)?;
                stage.report(store, losses)?;
                Ok(ending)
            })?
            .map_err(|error| self.refusal(error))?;
        self.instance.record_bytes(0, ending.header.len() + ending.trailer.len());
        Ok((Ending { header: ending.header, trailer: ending.trailer }, ending.size))
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
        self.instance.record_failure(refusal(self.instance.stage(), &self.compressor, error))
    }
}

/// An object that is being encoded and compressed. After an error it is unusable.
pub struct PackedObject {
    instance: PackerInstance,
    resource: ResourceAny,
}

impl PackedObject {
    /// Encodes and compresses the next logs. Returns the object's next bytes, possibly none.
    ///
    /// # Errors
    /// If a stage rejects the logs, or any error of a call.
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

    /// Finishes the object. Returns the bytes that precede and follow everything that [`push`](Self::push)
    /// returned, the object's size before compression, and the values that were lost since the last call of
    /// [`take_losses`](Self::take_losses).
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<(Ending, u64, Vec<Loss>), StageError> {
        let (ending, size) = self.instance.finish(self.resource)?;
        Ok((ending, size, self.instance.take_losses()))
    }
}

impl fmt::Debug for PackedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedObject of {}", self.instance.instance.stage())
    }
}

fn refusal(encoder: &Identity, compressor: &Identity, error: Error) -> StageError {
    let config = |stage: &Identity, ConfigProblem { path, reason }| StageError::Config {
        stage: stage.clone(),
        path,
        reason,
    };
    let stage = encoder.clone();
    match error {
        Error::InvalidEncoderConfig(problem) => config(encoder, problem),
        Error::InvalidCompressorConfig(problem) => config(compressor, problem),
        Error::InvalidBatch(invariant) => StageError::InvalidBatch { stage, invariant },
        Error::Rejected(rejection) => {
            StageError::Rejected { stage, log: rejection.log, reason: rejection.reason }
        }
        Error::TooLarge(reason) => StageError::TooLarge { stage, reason },
    }
}
