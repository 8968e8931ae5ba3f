//! The stages of a rule, together.
//!
//! `assembly`: how they are found and put together. `encoding`: the bytes that they make.

mod assembly;
mod encoding;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value, json};

pub use self::encoding::{Encoding, Finished};

use self::assembly::{adopted, driven, encoder, packed};
use self::encoding::Making;
use crate::partition::{Partition, Partitioner};
use crate::registry::{DIGEST, Registry};
use crate::rule::{Choice, NONE, PartitionBy, Rule, RuleError, Stages, TimeZone};
use crate::stage::{
    CompressorStage, EncoderStage, FusedBytes, Identity, PackerStage, RendererStage, Request, StageError,
    TransformingSession,
};
use crate::transforms::{TransformError, Transforms};

/// The stages of a rule, checked together and ready to make objects: render, transform, encode,
/// compress.
#[derive(Debug)]
pub struct Pipeline {
    renderer: Arc<RendererStage>,
    renderer_config: String,
    transforms: Transforms,
    bytes: Bytes,
    /// The one component that has all of them, if they are fused.
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

/// What makes the bytes of objects, each stage with its configuration.
#[derive(Debug)]
enum Bytes {
    /// Stages that the host drives.
    Driven { encoder: Arc<EncoderStage>, config: String, compressor: Option<(Arc<CompressorStage>, String)> },
    /// An encoder and a compressor in one component.
    Packed { packer: Arc<PackerStage>, config: String, compressor_config: String },
}

/// Why a rule has no pipeline.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// The rule is wrong in itself.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// One of its stages can't serve, or refuses its configuration.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// One of its transformers.
    #[error(transparent)]
    Transform(#[from] TransformError),
}

/// The task that an object is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// When it was created, in nanoseconds since the Unix epoch: the first half of its id.
    pub created: u64,
    /// The second half of its id.
    pub number: u64,
    /// The shard that the logs are from.
    pub shard: u32,
}

impl Task {
    /// The number of an object of the task, given how many it made before. The first one has the task's own; each other
    /// has it as the first digits of its own, so that the name of any begins with `CREATED_NUMBER`.
    fn number_of(&self, object: u32) -> u64 {
        match object {
            0 => self.number,
            1..10_000 => self.number * 10_000 + u64::from(object),
            _ => self.number * 10_000_000_000 + u64::from(object),
        }
    }
}

impl Pipeline {
    /// Finds the rule's stages, checks that they go together, and has each check its configuration:
    /// a mistake shows here and not with the first object.
    ///
    /// # Errors
    /// Whatever is wrong with the rule or a stage.
    pub fn new(registry: &Registry, rule: &Rule) -> Result<Self, PipelineError> {
        rule.check()?;
        let fused = rule.stages.pipeline.as_deref().map(|name| registry.fused(name)).transpose()?;
        let rule = &adopted(fused.as_deref(), rule)?;
        let renderer = match &fused {
            Some(fused) => Arc::clone(fused.renderer()),
            None => registry.renderer(rule.stages.renderer.as_deref().unwrap_or("object-path"))?,
        };
        let (bytes, suffix) = match fused.as_ref().map(|fused| fused.bytes()) {
            Some(FusedBytes::Packer(packer)) => packed(packer, rule),
            Some(FusedBytes::Encoder(encoder)) => driven(registry, rule, Arc::clone(encoder))?,
            None => driven(registry, rule, encoder(registry, rule)?)?,
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
        // A key of the length that real ones have.
        let task = Task { created: 1_900_000_000_000_000_000, number: 9_999_999, shard: 0 };
        pipeline.key(&task)?;
        if pipeline.is_partitioned() {
            pipeline.check_keys(&task)?;
        }
        Ok(pipeline)
    }

    /// The same, for the logs of a logstore: a renderer may have it in its keys.
    pub fn of(self, project: &str, logstore: &str) -> Self {
        Self { project: project.into(), logstore: logstore.into(), ..self }
    }

    /// Whether the logs of a task are split by their time, and become several objects.
    pub fn is_partitioned(&self) -> bool {
        !self.partition_by.is_created()
    }

    /// Finds the partitions of logs. None where their time decides none.
    pub(crate) fn partitioner(&self) -> Option<Partitioner> {
        Partitioner::new(self.partition_by, self.time_zone)
    }

    /// Objects of partitions that are open at one time, at most.
    pub(crate) fn open_partitions(&self) -> usize {
        self.open_partitions as usize
    }

    /// The key of the task's object. Empty where the time of logs decides it, which are not read yet.
    ///
    /// # Errors
    /// What the renderer refuses or ends with.
    pub fn task_key(&self, task: &Task) -> Result<String, StageError> {
        if self.is_partitioned() { Ok(String::new()) } else { self.key(task) }
    }

    /// The key of a task's object, by when the task was created.
    ///
    /// # Errors
    /// What the renderer refuses or ends with.
    pub fn key(&self, task: &Task) -> Result<String, StageError> {
        let created = DateTime::from_timestamp_nanos(task.created.try_into().unwrap_or(i64::MAX));
        self.render(task, task.number, task.created, self.time_zone.offset(created))
    }

    /// The key of an object of a task with the logs of a partition, given how many objects the task made before.
    ///
    /// # Errors
    /// What the renderer refuses or ends with.
    pub(crate) fn key_in(
        &self,
        task: &Task,
        partition: Partition,
        object: u32,
    ) -> Result<String, StageError> {
        let begin = partition.begin.saturating_mul(1_000_000_000);
        self.render(task, task.number_of(object), begin, partition.utc_offset)
    }

    /// The renderer gave a key that another object has.
    pub(crate) fn same_key(&self, key: String) -> StageError {
        StageError::SameKey { stage: self.renderer.identity().clone(), key }
    }

    /// Checks that objects of one partition have keys of their own, and so have those of two: a renderer that passes their
    /// facts over shows before anything is written.
    fn check_keys(&self, task: &Task) -> Result<(), StageError> {
        let day = |number: u64| Partition { begin: number * 86_400, utc_offset: 0 };
        let objects = [(day(20_000), 0), (day(20_000), 1), (day(20_001), 2)];
        let mut keys = HashSet::new();
        for (partition, object) in objects {
            if let Some(twice) = keys.replace(self.key_in(task, partition, object)?) {
                return Err(self.same_key(twice));
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

    /// Begins the bytes of an object, in instances of its own.
    ///
    /// # Errors
    /// What a stage refuses or ends with.
    pub fn open(&self) -> Result<Encoding, StageError> {
        Ok(Encoding { transformers: self.transforms.open()?, ..self.open_encoding()? })
    }

    /// The same for logs that are transformed already.
    pub(crate) fn open_encoding(&self) -> Result<Encoding, StageError> {
        let making = match &self.bytes {
            Bytes::Driven { encoder, config, compressor } => {
                let encoder = encoder.open(config)?;
                let compressor = compressor.as_ref().map(|(stage, config)| stage.open(config)).transpose()?;
                let compressor = compressor.map(Box::new);
                Making::Driven { encoder, compressor, returned: 0, inner: compresses_inside(config) }
            }
            Bytes::Packed { packer, config, compressor_config } => {
                Making::Packed(packer.open(config, compressor_config)?)
            }
        };
        Ok(Encoding { transformers: vec![], making, tap: None })
    }

    /// Begins to transform logs of several objects, in instances of its own.
    pub(crate) fn open_transforms(&self) -> Result<Vec<TransformingSession>, StageError> {
        self.transforms.open()
    }

    /// Bytes to keep free at the beginning of an object.
    pub fn header_room(&self) -> usize {
        let room = match &self.bytes {
            Bytes::Driven { compressor, .. } => {
                compressor.as_ref().map_or(0, |(stage, _)| stage.description().header_room)
            }
            Bytes::Packed { packer, .. } => packer.description().compressor.header_room,
        };
        room as usize
    }

    /// The media type of the objects.
    pub fn media_type(&self) -> &str {
        match &self.bytes {
            Bytes::Driven { encoder, compressor: None, .. } => &encoder.description().media_type,
            _ => "application/octet-stream",
        }
    }

    /// What the stages make: the format, and the compression of what compresses it, if something does outside of it.
    pub(crate) fn makes(&self) -> (&str, Option<&str>) {
        match &self.bytes {
            Bytes::Driven { encoder, compressor, .. } => {
                let compression = compressor.as_ref().map(|(stage, _)| &*stage.description().compression);
                (&encoder.description().format, compression)
            }
            Bytes::Packed { packer, .. } => {
                let about = packer.description();
                (&about.encoder.format, Some(&about.compressor.compression))
            }
        }
    }

    /// The same components as those that take part, by their digests.
    pub fn pinned(&self) -> Stages {
        let pin = |identity: &Identity| Some(format!("{DIGEST}{}", identity.digest()));
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

    /// The same transformers as those that take part, by their digests.
    pub fn pinned_transforms(&self) -> Vec<Choice> {
        self.transforms.pinned()
    }

    /// The stages that take part, in order.
    pub fn stages(&self) -> impl Iterator<Item = &Identity> {
        let (encoder, compressor) = self.bytes.stages();
        let first = [self.renderer.identity()].into_iter().chain(self.transforms.stages());
        first.chain([encoder]).chain(compressor)
    }
}

impl Bytes {
    /// The encoder, and the compressor behind it.
    fn stages(&self) -> (&Identity, Option<&Identity>) {
        match self {
            Self::Driven { encoder, compressor, .. } => {
                (encoder.identity(), compressor.as_ref().map(|(stage, _)| stage.identity()))
            }
            Self::Packed { packer, .. } => (packer.encoder(), Some(packer.compressor())),
        }
    }
}

/// Whether an encoder with this configuration compresses inside its format.
fn compresses_inside(config: &str) -> bool {
    let config: Map<String, Value> = serde_json::from_str(config).unwrap_or_default();
    config.get("compression").is_some_and(|name| name != NONE)
}

fn text(settings: &Map<String, Value>) -> String {
    if settings.is_empty() { String::new() } else { json!(settings).to_string() }
}
