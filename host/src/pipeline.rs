//! The stages of a rule, together.

use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::batch::LogBatch;
use crate::registry::{DIGEST, Registry};
use crate::rule::{NONE, Rule, RuleError, Stages, TimeZone};
use crate::stage::{
    CompressedObject, CompressorStage, EncodedObject, EncoderStage, Ending, Identity, RendererStage, Request,
    StageError, SuffixPlace,
};

/// The stages of a rule, checked together and ready to make objects: render, encode, compress.
#[derive(Debug)]
pub struct Pipeline {
    renderer: Arc<RendererStage>,
    renderer_config: String,
    encoder: Arc<EncoderStage>,
    encoder_config: String,
    compressor: Option<(Arc<CompressorStage>, String)>,
    suffix: String,
    rule: String,
    project: String,
    logstore: String,
    prefix: String,
    partition: String,
    time_zone: TimeZone,
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
        let encoder = encoder(registry, rule)?;
        let mut encoder_config = rule.format.settings.clone();
        let compressor = compressor(registry, rule, &encoder, &mut encoder_config)?;
        let suffix = suffix(rule, &encoder, compressor.as_deref());
        let name = rule.stages.renderer.as_deref().unwrap_or("object-path");
        let pipeline = Self {
            renderer: registry.renderer(name)?,
            renderer_config: text(&rule.path),
            encoder,
            encoder_config: text(&encoder_config),
            compressor: compressor.map(|stage| (stage, text(&rule.compression.settings))),
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
        let encoder = self.encoder.open(&self.encoder_config)?;
        let compressor = self.compressor.as_ref().map(|(stage, config)| stage.open(config)).transpose()?;
        Ok(Encoding { encoder, compressor, returned: 0, inner: self.compresses_inside() })
    }

    /// Whether the encoder compresses inside its format.
    fn compresses_inside(&self) -> bool {
        let config: Map<String, Value> = serde_json::from_str(&self.encoder_config).unwrap_or_default();
        config.get("compression").is_some_and(|name| name != NONE)
    }

    /// Bytes to keep free at the beginning of an object.
    pub fn header_room(&self) -> usize {
        self.compressor.as_ref().map_or(0, |(stage, _)| stage.description().header_room as usize)
    }

    /// The media type of the objects.
    pub fn media_type(&self) -> &str {
        match &self.compressor {
            None => &self.encoder.description().media_type,
            Some(_) => "application/octet-stream",
        }
    }

    /// The same components as those that take part, by their digests.
    pub fn pinned(&self) -> Stages {
        let pin = |identity: &Identity| Some(format!("{DIGEST}{}", identity.digest()));
        Stages {
            encoder: pin(self.encoder.identity()),
            compressor: self.compressor.as_ref().and_then(|(stage, _)| pin(stage.identity())),
            renderer: pin(self.renderer.identity()),
        }
    }

    /// The stages that take part, in order.
    pub fn stages(&self) -> impl Iterator<Item = &Identity> {
        let compressor = self.compressor.as_ref().map(|(stage, _)| stage.identity());
        [self.renderer.identity(), self.encoder.identity()].into_iter().chain(compressor)
    }
}

/// The bytes of an object in the making: encoder, and compressor behind it.
#[derive(Debug)]
pub struct Encoding {
    encoder: EncodedObject,
    compressor: Option<CompressedObject>,
    /// Bytes that the encoder returned so far.
    returned: u64,
    /// Whether these are compressed already.
    inner: bool,
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
    /// Takes the next logs; returns the object's next bytes, maybe none.
    ///
    /// # Errors
    /// What a stage refuses or ends with; the object is lost then.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        let bytes = self.encoder.push(batch)?;
        self.returned += bytes.len() as u64;
        match &mut self.compressor {
            Some(compressor) if !bytes.is_empty() => compressor.push(&bytes),
            _ => Ok(bytes),
        }
    }

    /// Bytes that the object would have if it were finished now, uncompressed.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn size(&mut self) -> Result<u64, StageError> {
        self.encoder.size()
    }

    /// Ends the object.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Finished, StageError> {
        let size = if self.inner { self.size()? } else { 0 };
        let mut trailer = self.encoder.finish()?;
        let raw_bytes = size.max(self.returned + trailer.len() as u64);
        let mut header = vec![];
        if let Some(mut compressor) = self.compressor {
            if !trailer.is_empty() {
                trailer = compressor.push(&trailer)?;
            }
            let mut ending = compressor.finish()?;
            trailer.append(&mut ending.trailer);
            header = ending.header;
        }
        Ok(Finished { ending: Ending { header, trailer }, raw_bytes })
    }
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
        (None, Some(compressor)) => match compressor.suffix_place {
            SuffixPlace::BeforeFormat => format!("{}{format}", compressor.suffix),
            SuffixPlace::AfterFormat => format!("{format}{}", compressor.suffix),
        },
    }
}

fn text(settings: &Map<String, Value>) -> String {
    if settings.is_empty() { String::new() } else { json!(settings).to_string() }
}
