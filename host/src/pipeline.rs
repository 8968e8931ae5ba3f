//! The stages of a rule, together.

use std::ops::Range;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::batch::LogBatch;
use crate::registry::{DIGEST, Registry};
use crate::rule::{Choice, NONE, Rule, RuleError, Stages, TimeZone};
use crate::stage::{
    CompressedObject, CompressorStage, EncodedObject, EncoderStage, Ending, FusedBytes, FusedStage, Identity,
    PackedObject, PackedPlace, PackerStage, RendererStage, Request, StageError, SuffixPlace, Transformed,
    TransformingSession,
};
use crate::transforms::{self, TransformError, Transforms};
use crate::trial::replay::Tap;

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
        };
        pipeline.open()?;
        // A key of the length that real ones have.
        pipeline.key(&Task { created: 1_900_000_000_000_000_000, number: 9_999_999, shard: 0 })?;
        Ok(pipeline)
    }

    /// The same, for the logs of a logstore: a renderer may have it in its keys.
    pub fn of(self, project: &str, logstore: &str) -> Self {
        Self { project: project.into(), logstore: logstore.into(), ..self }
    }

    /// The key of the task's object.
    ///
    /// # Errors
    /// What the renderer refuses or ends with.
    pub fn key(&self, task: &Task) -> Result<String, StageError> {
        let created = DateTime::from_timestamp_nanos(task.created.try_into().unwrap_or(i64::MAX));
        let request = Request {
            rule: self.rule.clone(),
            project: self.project.clone(),
            logstore: self.logstore.clone(),
            shard: task.shard,
            prefix: self.prefix.clone(),
            partition_format: self.partition.clone(),
            partition_time: task.created,
            utc_offset: self.time_zone.offset(created),
            creation_time: task.created,
            number: task.number,
            suffix: self.suffix.clone(),
        };
        self.renderer.render(&self.renderer_config, &request)
    }

    /// Begins the bytes of an object, in instances of its own.
    ///
    /// # Errors
    /// What a stage refuses or ends with.
    pub fn open(&self) -> Result<Encoding, StageError> {
        let making = match &self.bytes {
            Bytes::Driven { encoder, config, compressor } => {
                let encoder = encoder.open(config)?;
                let compressor = compressor.as_ref().map(|(stage, config)| stage.open(config)).transpose()?;
                Making::Driven { encoder, compressor, returned: 0, inner: compresses_inside(config) }
            }
            Bytes::Packed { packer, config, compressor_config } => {
                Making::Packed(packer.open(config, compressor_config)?)
            }
        };
        Ok(Encoding { transformers: self.transforms.open()?, making, tap: None })
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

/// The bytes of an object in the making: transformers, encoder, and compressor behind it.
#[derive(Debug)]
pub struct Encoding {
    transformers: Vec<TransformingSession>,
    making: Making,
    /// Sees what the encoder returns.
    tap: Option<Tap>,
}

#[derive(Debug)]
enum Making {
    Driven {
        encoder: EncodedObject,
        compressor: Option<CompressedObject>,
        /// Bytes that the encoder returned so far.
        returned: u64,
        /// Whether these are compressed already.
        inner: bool,
    },
    Packed(PackedObject),
}

/// The end of an object's bytes.
#[derive(Debug)]
pub struct Finished {
    /// What belongs before and behind all bytes that came before.
    pub ending: Ending,
    /// Bytes of the whole object before compression; an upper estimate where it was compressed
    /// inside its format.
    pub raw_bytes: u64,
}

impl Encoding {
    /// The same, and what is encoded is seen before it is compressed, where the host sees it.
    pub(crate) fn tapped(self, tap: Tap) -> Self {
        Self { tap: Some(tap), ..self }
    }

    /// What becomes of some logs of a batch before they are [pushed](Self::push). None where the rule has no transformers:
    /// they are as they are.
    ///
    /// # Errors
    /// What a stage refuses or ends with; the object is lost then.
    pub fn transform(
        &mut self,
        batch: &LogBatch,
        logs: Range<usize>,
    ) -> Result<Option<Transformed>, StageError> {
        transforms::apply(&mut self.transformers, batch, logs)
    }

    /// Takes the next logs, transformed; returns the object's next bytes, maybe none.
    ///
    /// # Errors
    /// What a stage refuses or ends with; the object is lost then.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        match &mut self.making {
            Making::Driven { encoder, compressor, returned, .. } => {
                let bytes = encoder.push(batch)?;
                *returned += bytes.len() as u64;
                if let Some(tap) = &self.tap {
                    tap.write(&bytes);
                }
                match compressor {
                    Some(compressor) if !bytes.is_empty() => compressor.push(&bytes),
                    _ => Ok(bytes),
                }
            }
            Making::Packed(object) => object.push(batch),
        }
    }

    /// Bytes that the object would have if it were finished now, uncompressed.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn size(&mut self) -> Result<u64, StageError> {
        match &mut self.making {
            // Whatever a stage says of it: an object is cut by what was returned, too.
            Making::Driven { encoder, returned, .. } => Ok(encoder.size()?.max(*returned)),
            Making::Packed(object) => object.size(),
        }
    }

    /// Ends the object.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(self) -> Result<Finished, StageError> {
        match self.making {
            Making::Driven { mut encoder, compressor, returned, inner } => {
                let size = if inner { encoder.size()? } else { 0 };
                let trailer = encoder.finish()?;
                if let Some(tap) = &self.tap {
                    tap.write(&trailer);
                }
                let raw_bytes = size.max(returned + trailer.len() as u64);
                Ok(Finished { ending: compressed(compressor, trailer)?, raw_bytes })
            }
            Making::Packed(object) => {
                let (ending, raw_bytes) = object.finish()?;
                Ok(Finished { ending, raw_bytes })
            }
        }
    }
}

/// The last bytes of an encoder, behind its compressor.
fn compressed(compressor: Option<CompressedObject>, mut trailer: Vec<u8>) -> Result<Ending, StageError> {
    let Some(mut compressor) = compressor else { return Ok(Ending { header: vec![], trailer }) };
    if !trailer.is_empty() {
        trailer = compressor.push(&trailer)?;
    }
    let mut ending = compressor.finish()?;
    trailer.append(&mut ending.trailer);
    Ok(Ending { header: ending.header, trailer })
}

/// The rule, with format and compression as a fused pipeline makes them where the rule leaves them as they are by
/// default.
///
/// # Errors
/// [`RuleError::Field`], where the rule wants what the pipeline does not make.
fn adopted(fused: Option<&FusedStage>, rule: &Rule) -> Result<Rule, RuleError> {
    let mut rule = rule.clone();
    let Some(fused) = fused else { return Ok(rule) };
    let name = fused.identity().name();
    if rule.format.name == Rule::default().format.name {
        rule.format.name = fused.format().to_owned();
    } else if rule.format.name != fused.format() {
        let problem = format!(
            "{:?} is not what the pipeline makes: {name} makes {}; take one of them out",
            rule.format.name,
            fused.format()
        );
        return Err(RuleError::field("format", problem));
    }
    let Some(makes) = fused.compression() else { return Ok(rule) };
    if rule.compression.name == NONE && rule.compression.settings.is_empty() {
        rule.compression.name = makes.to_owned();
    } else if rule.compression.name != makes {
        let problem = format!(
            "{:?} is not what the pipeline makes: {name} makes {makes}; take one of them out",
            rule.compression.name
        );
        return Err(RuleError::field("compression", problem));
    }
    Ok(rule)
}

impl Rule {
    /// Takes over format and compression from the rule's fused pipeline, if it has one, where the rule does not say
    /// them.
    ///
    /// # Errors
    /// When there is no such pipeline, or the rule wants what it does not make.
    pub fn adopt(&mut self, registry: &Registry) -> Result<(), PipelineError> {
        if let Some(name) = &self.stages.pipeline {
            *self = adopted(Some(&*registry.fused(name)?), self)?;
        }
        Ok(())
    }
}

/// An encoder and a compressor in one component, and the suffix of its objects.
fn packed(packer: &Arc<PackerStage>, rule: &Rule) -> (Bytes, String) {
    let about = packer.description();
    let suffix = joined(
        &about.encoder.suffix,
        &about.compressor.suffix,
        match about.compressor.suffix_place {
            PackedPlace::BeforeFormat => SuffixPlace::BeforeFormat,
            PackedPlace::AfterFormat => SuffixPlace::AfterFormat,
        },
    );
    let bytes = Bytes::Packed {
        packer: Arc::clone(packer),
        config: text(&rule.format.settings),
        compressor_config: text(&rule.compression.settings),
    };
    (bytes, suffix)
}

/// An encoder, the compressor of the rule behind it, and the suffix of their objects.
fn driven(
    registry: &Registry,
    rule: &Rule,
    encoder: Arc<EncoderStage>,
) -> Result<(Bytes, String), PipelineError> {
    let mut config = rule.format.settings.clone();
    let compressor = compressor(registry, rule, &encoder, &mut config)?;
    let suffix = suffix(rule, &encoder, compressor.as_deref());
    let compressor = compressor.map(|stage| (stage, text(&rule.compression.settings)));
    Ok((Bytes::Driven { encoder, config: text(&config), compressor }, suffix))
}

/// Whether an encoder with this configuration compresses inside its format.
fn compresses_inside(config: &str) -> bool {
    let config: Map<String, Value> = serde_json::from_str(config).unwrap_or_default();
    config.get("compression").is_some_and(|name| name != NONE)
}

fn encoder(registry: &Registry, rule: &Rule) -> Result<Arc<EncoderStage>, PipelineError> {
    if let Some(name) = &rule.stages.encoder {
        return Ok(registry.encoder(name)?);
    }
    registry.encoder(&format!("encode-{}", rule.format.name)).map_err(|error| match error {
        StageError::Unknown { known, .. } => {
            let known = known.iter().filter_map(|name| name.strip_prefix("encode-")).collect::<Vec<_>>();
            let problem = format!("there is no format {:?}; there is {}", rule.format.name, known.join(", "));
            RuleError::field("format", problem).into()
        }
        error => error.into(),
    })
}

/// The compressor behind the encoder; none where the encoder compresses inside its format, which is
/// then put into its configuration.
fn compressor(
    registry: &Registry,
    rule: &Rule,
    encoder: &EncoderStage,
    encoder_config: &mut Map<String, Value>,
) -> Result<Option<Arc<CompressorStage>>, PipelineError> {
    let wanted = &rule.compression.name;
    let inner = &encoder.description().compressions;
    let format = &encoder.description().format;
    let settings = &rule.compression.settings;
    if (wanted == NONE && rule.stages.compressor.is_none() || !inner.is_empty()) && !settings.is_empty() {
        let problem = format!(
            "{wanted:?} has no settings with {format}: take {:?} out",
            settings.keys().collect::<Vec<_>>()
        );
        return Err(RuleError::field("compression", problem).into());
    }
    if !inner.is_empty() {
        if encoder_config.contains_key("compression") {
            let problem =
                "the format is given its compression by the rule: say compression = … beside [format]";
            return Err(RuleError::field("format", problem).into());
        }
        if let Some(name) = &rule.stages.compressor {
            let problem = format!(
                "{format} is compressed inside its format, so no compressor ({name}) can stand behind {}. Take the compressor out, and say compression = {:?}",
                encoder.identity().name(),
                inner[0].name,
            );
            return Err(RuleError::field("stages.compressor", problem).into());
        }
        if wanted != NONE && !inner.iter().any(|inner| inner.name == *wanted) {
            let known: Vec<_> = inner.iter().map(|inner| inner.name.clone()).collect();
            let problem =
                format!("{format} has no compression {wanted:?}; there is {NONE}, {}", known.join(", "));
            return Err(RuleError::field("compression", problem).into());
        }
        encoder_config.insert("compression".into(), json!(wanted));
        return Ok(None);
    }
    if let Some(name) = &rule.stages.compressor {
        let stage = registry.compressor(name)?;
        let makes = &stage.description().compression;
        if wanted != NONE && wanted != makes {
            let problem =
                format!("{name} makes {makes:?}, and compression = {wanted:?}; name one of them only");
            return Err(RuleError::field("stages.compressor", problem).into());
        }
        return Ok(Some(stage));
    }
    if wanted == NONE {
        return Ok(None);
    }
    registry.compressor(&format!("compress-{wanted}")).map(Some).map_err(|error| match error {
        StageError::Unknown { known, .. } => {
            let known = known.iter().filter_map(|name| name.strip_prefix("compress-")).collect::<Vec<_>>();
            let problem =
                format!("there is no compression {wanted:?}; there is {NONE}, {}", known.join(", "));
            RuleError::field("compression", problem).into()
        }
        error => error.into(),
    })
}

/// The suffixes of format and compression, in their order.
fn suffix(rule: &Rule, encoder: &EncoderStage, compressor: Option<&CompressorStage>) -> String {
    let format = &encoder.description().suffix;
    let inner = encoder.description().compressions.iter().find(|inner| inner.name == rule.compression.name);
    match (inner, compressor.map(CompressorStage::description)) {
        (Some(inner), _) => format!("{}{format}", inner.suffix),
        (None, None) => format.clone(),
        (None, Some(compressor)) => joined(format, &compressor.suffix, compressor.suffix_place),
    }
}

fn joined(format: &str, compression: &str, place: SuffixPlace) -> String {
    match place {
        SuffixPlace::BeforeFormat => format!("{compression}{format}"),
        SuffixPlace::AfterFormat => format!("{format}{compression}"),
    }
}

fn text(settings: &Map<String, Value>) -> String {
    if settings.is_empty() { String::new() } else { json!(settings).to_string() }
}
