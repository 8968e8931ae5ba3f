//! The stages of a rule, combined.
//!
//! `assembly`: selects and combines them. `encoding`: the bytes that they produce. `pieces`: logs that pass transformers
//! which may reject some of them.

mod assembly;
mod encoding;
pub(crate) mod pieces;
mod tap;
pub mod transforms;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value, json};

pub use self::assembly::adopt_fused_formats;
pub use self::tap::Tap;

pub use self::encoding::{Encoding, FinishedEncoding};

use self::assembly::{encoder, packed, separate, with_fused_formats};
use self::encoding::Writer;
use crate::pipeline::transforms::{TransformError, Transforms};
use logship_batch::partition::{Partition, Partitioner};
use logship_config::rule::{NONE, PartitionBy, Rule, RuleError, StageSpec, Stages, TimeZone};
use logship_config::stage_name::DIGEST_PREFIX;
use logship_logstore::LostValues;
use logship_registry::Registry;
use logship_runtime::stage::{
    CompressorStage, EncoderStage, FusedBytes, Identity, PackerStage, RendererStage, Request, StageError,
    TransformingSession,
};

/// The stages of a rule, checked together and ready to make objects: render, transform, encode, compress.
#[derive(Debug)]
pub struct Pipeline {
    renderer: Arc<RendererStage>,
    renderer_config: String,
    transforms: Transforms,
    bytes: Bytes,
    /// The component of a fused pipeline.
    fused: Option<Identity>,
    suffix: String,
    rule: String,
    project: String,
    logstore: String,
    prefix: String,
    partition: String,
    time_zone: TimeZone,
    partition_by: PartitionBy,
    open_partitions: u64,
}

/// The stages that produce the bytes of objects, with their configurations.
#[derive(Debug)]
enum Bytes {
    /// An encoder and an optional compressor, connected by the host.
    Separate {
        encoder: Arc<EncoderStage>,
        config: String,
        compressor: Option<(Arc<CompressorStage>, String)>,
    },
    /// An encoder and a compressor in one component.
    Packed { packer: Arc<PackerStage>, config: String, compressor_config: String },
}

/// An error of assembling a rule's pipeline.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// The rule is invalid.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A stage can't be loaded, or rejects its configuration.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A transformer can't be loaded, or rejects its configuration.
    #[error(transparent)]
    Transform(#[from] TransformError),
}

/// The task that an object is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Creation time, in nanoseconds since the Unix epoch: the first half of the task's id.
    pub created: u64,
    /// The second half of the task's id.
    pub number: u64,
    /// The shard of the logs.
    pub shard: u32,
}

impl Task {
    /// Returns the number of an object of the task. `object` counts the objects made before. The first object
    /// has the task's own number. The numbers of further objects begin with the task's number, so each name
    /// begins with `CREATED_NUMBER`.
    fn number_of(&self, object: u32) -> u64 {
        match object {
            0 => self.number,
            1..10_000 => self.number * 10_000 + u64::from(object),
            _ => self.number * 10_000_000_000 + u64::from(object),
        }
    }
}

impl Pipeline {
    /// Loads the rule's stages, checks that they fit together, and lets each check its configuration. This
    /// reports mistakes before the first object.
    ///
    /// # Errors
    /// If the rule or a stage is invalid.
    pub fn new(registry: &Registry, rule: &Rule) -> Result<Self, PipelineError> {
        rule.check()?;
        let fused = rule.stages.pipeline.as_deref().map(|name| registry.fused(name)).transpose()?;
        let rule = &with_fused_formats(fused.as_deref(), rule)?;
        let renderer = match &fused {
            Some(fused) => Arc::clone(fused.renderer()),
            None => registry.renderer(rule.stages.renderer.as_deref().unwrap_or("object-path"))?,
        };
        let (bytes, suffix) = match fused.as_ref().map(|fused| fused.bytes()) {
            Some(FusedBytes::Packer(packer)) => packed(packer, rule),
            Some(FusedBytes::Encoder(encoder)) => separate(registry, rule, Arc::clone(encoder))?,
            None => separate(registry, rule, encoder(registry, rule)?)?,
        };
        let pipeline = Self {
            renderer,
            renderer_config: text(&rule.path),
            transforms: Transforms::new(registry, &rule.transform)?,
            bytes,
            fused: fused.map(|fused| fused.identity().clone()),
            suffix,
            rule: rule.name.clone(),
            project: String::new(),
            logstore: String::new(),
            prefix: rule.prefix.clone(),
            partition: rule.partition.clone(),
            time_zone: rule.time_zone,
            partition_by: rule.partition_by,
            open_partitions: rule.open_partitions,
        };
        pipeline.open()?;
        // A key as long as real ones.
        let task = Task { created: 1_900_000_000_000_000_000, number: 9_999_999, shard: 0 };
        pipeline.key(&task)?;
        if pipeline.is_partitioned() {
            pipeline.check_keys(&task)?;
        }
        Ok(pipeline)
    }

    /// Returns the same pipeline for the logs of a Logstore, which a renderer may put into keys.
    pub fn for_logstore(self, project: &str, logstore: &str) -> Self {
        Self { project: project.into(), logstore: logstore.into(), ..self }
    }

    /// True if a task's logs are split by their time into several objects.
    pub fn is_partitioned(&self) -> bool {
        !self.partition_by.is_created()
    }

    /// Returns the partitioner of the logs. `None` if their time does not matter.
    pub(crate) fn partitioner(&self) -> Option<Partitioner> {
        Partitioner::new(self.partition_by, self.time_zone)
    }

    /// Returns the maximum number of open objects for partitions.
    pub(crate) fn open_partitions(&self) -> usize {
        self.open_partitions as usize
    }

    /// Returns the key of the task's object. Empty if the key depends on the time of logs that are not read
    /// yet.
    ///
    /// # Errors
    /// If the renderer rejects the request, or any error of a call.
    pub fn task_key(&self, task: &Task) -> Result<String, StageError> {
        if self.is_partitioned() { Ok(String::new()) } else { self.key(task) }
    }

    /// Returns the key of a task's object, based on the task's creation time.
    ///
    /// # Errors
    /// If the renderer rejects the request, or any error of a call.
    pub fn key(&self, task: &Task) -> Result<String, StageError> {
        let created = DateTime::from_timestamp_nanos(task.created.try_into().unwrap_or(i64::MAX));
        self.render(task, task.number, task.created, self.time_zone.offset(created))
    }

    /// Returns the key of a task's object for a partition. `object` counts the objects made before.
    ///
    /// # Errors
    /// If the renderer rejects the request, or any error of a call.
    pub fn partition_key(
        &self,
        task: &Task,
        partition: Partition,
        object: u32,
    ) -> Result<String, StageError> {
        let begin = partition.begin.saturating_mul(1_000_000_000);
        self.render(task, task.number_of(object), begin, partition.utc_offset)
    }

    /// Returns the error for a key that another object has.
    pub fn duplicate_key(&self, key: String) -> StageError {
        StageError::SameKey { stage: self.renderer.identity().clone(), key }
    }

    /// Checks that objects of the same partition, and of different ones, get different keys. This rejects a
    /// renderer that ignores these values before anything is written.
    fn check_keys(&self, task: &Task) -> Result<(), StageError> {
        let day = |number: u64| Partition { begin: number * 86_400, utc_offset: 0 };
        let objects = [(day(20_000), 0), (day(20_000), 1), (day(20_001), 2)];
        let mut keys = HashSet::new();
        for (partition, object) in objects {
            if let Some(duplicate) = keys.replace(self.partition_key(task, partition, object)?) {
                return Err(self.duplicate_key(duplicate));
            }
        }
        Ok(())
    }

    fn render(
        &self,
        task: &Task,
        number: u64,
        partition_time: u64,
        utc_offset: i32,
    ) -> Result<String, StageError> {
        let request = Request {
            rule: self.rule.clone(),
            project: self.project.clone(),
            logstore: self.logstore.clone(),
            shard: task.shard,
            prefix: self.prefix.clone(),
            partition_format: self.partition.clone(),
            partition_time,
            utc_offset,
            creation_time: task.created,
            number,
            suffix: self.suffix.clone(),
        };
        self.renderer.render(&self.renderer_config, &request)
    }

    /// Opens the encoding of an object, in instances of its own.
    ///
    /// # Errors
    /// If a stage rejects its configuration, or any error of a call.
    pub fn open(&self) -> Result<Encoding, StageError> {
        Ok(Encoding { transformers: self.transforms.open()?, ..self.open_encoding()? })
    }

    /// Opens an encoding for logs that are already transformed.
    pub(crate) fn open_encoding(&self) -> Result<Encoding, StageError> {
        let writer = match &self.bytes {
            Bytes::Separate { encoder, config, compressor } => {
                let encoder = encoder.open(config)?;
                let compressor = compressor.as_ref().map(|(stage, config)| stage.open(config)).transpose()?;
                let compressor = compressor.map(Box::new);
                Writer::Separate {
                    encoder,
                    compressor,
                    returned: 0,
                    is_compressed: compresses_inside(config),
                }
            }
            Bytes::Packed { packer, config, compressor_config } => {
                Writer::Packed(packer.open(config, compressor_config)?)
            }
        };
        Ok(Encoding { transformers: vec![], writer, tap: None, lost: LostValues::default() })
    }

    /// Opens transformers for the logs of several objects, in instances of their own.
    pub(crate) fn open_transforms(&self) -> Result<Vec<TransformingSession>, StageError> {
        self.transforms.open()
    }

    /// Returns the number of bytes to reserve at the beginning of an object.
    pub fn header_room(&self) -> usize {
        let room = match &self.bytes {
            Bytes::Separate { compressor, .. } => {
                compressor.as_ref().map_or(0, |(stage, _)| stage.description().header_room)
            }
            Bytes::Packed { packer, .. } => packer.description().compressor.header_room,
        };
        room as usize
    }

    /// Returns the media type of the objects.
    pub fn media_type(&self) -> &str {
        match &self.bytes {
            Bytes::Separate { encoder, compressor: None, .. } => &encoder.description().media_type,
            _ => "application/octet-stream",
        }
    }

    /// Returns the format, and the compression of the separate compressor if there is one.
    pub(crate) fn format_and_compression(&self) -> (&str, Option<&str>) {
        match &self.bytes {
            Bytes::Separate { encoder, compressor, .. } => {
                let compression = compressor.as_ref().map(|(stage, _)| &*stage.description().compression);
                (&encoder.description().format, compression)
            }
            Bytes::Packed { packer, .. } => {
                let about = packer.description();
                (&about.encoder.format, Some(&about.compressor.compression))
            }
        }
    }

    /// Returns the same stages pinned by digest.
    pub fn pinned(&self) -> Stages {
        let pin = |identity: &Identity| Some(format!("{DIGEST_PREFIX}{}", identity.digest()));
        if let Some(fused) = &self.fused {
            return Stages { pipeline: pin(fused), ..Stages::default() };
        }
        let (encoder, compressor) = self.bytes.stages();
        Stages {
            encoder: pin(encoder),
            compressor: compressor.and_then(pin),
            renderer: pin(self.renderer.identity()),
            pipeline: None,
        }
    }

    /// Returns the same transformers pinned by digest.
    pub fn pinned_transforms(&self) -> Vec<StageSpec> {
        self.transforms.pinned()
    }

    /// Returns the stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &Identity> {
        let (encoder, compressor) = self.bytes.stages();
        let first = [self.renderer.identity()].into_iter().chain(self.transforms.stages());
        first.chain([encoder]).chain(compressor)
    }
}

impl Bytes {
    /// Returns the encoder and the compressor.
    fn stages(&self) -> (&Identity, Option<&Identity>) {
        match self {
            Self::Separate { encoder, compressor, .. } => {
                (encoder.identity(), compressor.as_ref().map(|(stage, _)| stage.identity()))
            }
            Self::Packed { packer, .. } => (packer.encoder(), Some(packer.compressor())),
        }
    }
}

/// True if an encoder with this configuration compresses inside its format.
fn compresses_inside(config: &str) -> bool {
    let config: Map<String, Value> = serde_json::from_str(config).unwrap_or_default();
    config.get("compression").is_some_and(|name| name != NONE)
}

fn text(settings: &Map<String, Value>) -> String {
    if settings.is_empty() { String::new() } else { json!(settings).to_string() }
}
