//! Makes the object of a batch: render, encode, compress.

use chrono::DateTime;
use logship_batch::batch::LogBatch;
use logship_batch::stage_spec::{NONE, StageSpec};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::digest::Digest;
use crate::losses::Losses;
use crate::problem::Problem;
use crate::rule::{Deliver, Rule};
use crate::stages::compressor::{self, SuffixPlace};
use crate::stages::{encoder, renderer};

/// A finished object.
#[derive(Debug)]
pub struct Object {
    /// The object's key in the bucket.
    pub key: String,
    /// The object's content.
    pub bytes: Vec<u8>,
    /// The number of logs.
    pub rows: usize,
    /// The size in bytes before compression; an upper estimate for compression inside the format.
    pub raw_bytes: u64,
    /// The media type.
    pub media_type: String,
    /// The kind of `digest`: SHA-256, unless the object is returned to a caller that selected another.
    pub digest_kind: Digest,
    /// The digest of the content, in hexadecimal.
    pub digest: String,
    /// The name and version of each stage used.
    pub stages: String,
    /// The values of the logs that it cannot hold.
    pub losses: Losses,
}

/// Makes the object of a call's logs. The same rule, stages, task and logs give the same object.
///
/// # Errors
/// If the rule and the function's stages are incompatible, or a stage fails.
pub fn make(rule: &Rule, call: &Call, body: &Body) -> Result<Object, Problem> {
    let plan = Plan::new(rule)?;
    let key = render(rule, call, &plan.suffix)?;
    if let Some(expected) = call.key.as_ref().filter(|expected| **expected != key) {
        return Err(Problem::settings(format!(
            "the caller expects the key {expected:?}, but this function makes {key:?}: use the same renderer and settings on both sides"
        )));
    }
    // Those of a call that failed.
    drop(Losses::take());
    let mut writer = plan.open()?;
    // Each batch is freed before the next is parsed, because allocating fresh memory takes most of a call's time.
    body.for_each_batch(call.task.created_time(), |batch| writer.push(&batch))?;
    let rows = writer.rows;
    if rows == 0 {
        return Err(Problem::bad_batch("the body has no logs, but an object needs at least one"));
    }
    let (bytes, raw_bytes) = writer.finish()?;
    let digest_kind = if rule.deliver == Deliver::Caller { call.digest } else { Digest::Sha256 };
    Ok(Object {
        key,
        rows,
        raw_bytes,
        media_type: plan.media_type(),
        digest_kind,
        digest: digest_kind.of(&bytes),
        stages: plan.stages(),
        losses: Losses::take(),
        bytes,
    })
}

/// Checks that the function can make the objects of a rule. Returns the name and version of the stages.
///
/// # Errors
/// If the rule and the function's stages are incompatible, or a stage rejects its settings.
pub fn check(rule: &Rule, call: &Call) -> Result<String, Problem> {
    let plan = Plan::new(rule)?;
    render(rule, call, &plan.suffix)?;
    plan.open()?;
    Ok(plan.stages())
}

/// The stages for a rule, with their settings.
struct Plan {
    encoder: encoder::Description,
    encoder_config: String,
    compressor: Option<(compressor::Description, String)>,
    /// True if the encoder compresses inside its format.
    inner: bool,
    suffix: String,
}

impl Plan {
    fn new(rule: &Rule) -> Result<Self, Problem> {
        let encoder = encoder::describe();
        let mut encoder_config = Map::new();
        if let Some(format) = &rule.spec.format {
            if format.name != encoder.format {
                return Err(other_stage(
                    rule,
                    "format",
                    &format.name,
                    "encoder",
                    &encoder.name,
                    &encoder.format,
                ));
            }
            encoder_config.clone_from(&format.settings);
        }
        let compressor = compressor::describe();
        if encoder.compressions.is_empty() {
            let compressor = outer_compression(rule, compressor)?;
            let suffix = match &compressor {
                None => encoder.suffix.clone(),
                Some((stage, _)) => match stage.suffix_place {
                    SuffixPlace::BeforeFormat => format!("{}{}", stage.suffix, encoder.suffix),
                    SuffixPlace::AfterFormat => format!("{}{}", encoder.suffix, stage.suffix),
                },
            };
            return Ok(Self {
                encoder_config: config_text(&encoder_config),
                encoder,
                compressor,
                inner: false,
                suffix,
            });
        }
        let name = inner_compression(rule, &encoder, &compressor)?;
        encoder_config.insert("compression".into(), json!(name));
        let inner = encoder.compressions.iter().find(|inner| inner.name == name);
        let suffix = format!("{}{}", inner.map_or("", |inner| &inner.suffix), encoder.suffix);
        Ok(Self {
            encoder_config: config_text(&encoder_config),
            encoder,
            compressor: None,
            inner: name != NONE,
            suffix,
        })
    }

    fn open(&self) -> Result<Writer, Problem> {
        let encoder = encoder::Object::open(&self.encoder_config).map_err(encoder_problem)?;
        let compressor = match &self.compressor {
            Some((_, config)) => Some(compressor::Object::open(config).map_err(compressor_problem)?),
            None => None,
        };
        let output = Output { compressor, encoded_bytes: 0, bytes: vec![] };
        Ok(Writer { encoder, inner: self.inner, rows: 0, output })
    }

    fn media_type(&self) -> String {
        match &self.compressor {
            None => self.encoder.media_type.clone(),
            Some(_) => "application/octet-stream".into(),
        }
    }

    fn stages(&self) -> String {
        let renderer = renderer::describe();
        let mut stages =
            format!("{}@{}, {}@{}", renderer.name, renderer.version, self.encoder.name, self.encoder.version);
        if let Some((compressor, _)) = &self.compressor {
            stages.push_str(&format!(", {}@{}", compressor.name, compressor.version));
        }
        stages
    }
}

/// An open object.
struct Writer {
    encoder: encoder::Object,
    /// True if the encoder compresses inside its format.
    inner: bool,
    rows: usize,
    output: Output,
}

impl Writer {
    fn push(&mut self, batch: &LogBatch) -> Result<(), Problem> {
        let encoded = self.encoder.push(batch);
        self.output
            .take(encoded.map_err(|error| encoder_problem(with_log_offset(error, self.rows as u32)))?)?;
        self.rows += batch.len();
        Ok(())
    }

    /// Finishes the object. Returns its content, and its size before compression.
    fn finish(self) -> Result<(Vec<u8>, u64), Problem> {
        let Self { encoder, inner, mut output, .. } = self;
        let size = if inner { encoder.size() } else { 0 };
        output.take(encoder::Object::finish(encoder).map_err(encoder_problem)?)?;
        let Output { compressor, encoded_bytes, mut bytes } = output;
        if let Some(compressor) = compressor {
            let mut ending = compressor::Object::finish(compressor).map_err(compressor_problem)?;
            bytes.append(&mut ending.trailer);
            bytes.splice(..0, ending.header);
        }
        Ok((bytes, size.max(encoded_bytes)))
    }
}

/// Compresses the encoder's output.
struct Output {
    compressor: Option<compressor::Object>,
    /// The number of bytes that the encoder returned.
    encoded_bytes: u64,
    bytes: Vec<u8>,
}

impl Output {
    fn take(&mut self, encoded: Vec<u8>) -> Result<(), Problem> {
        self.encoded_bytes += encoded.len() as u64;
        match &self.compressor {
            Some(_) if encoded.is_empty() => {}
            Some(compressor) => {
                self.bytes.append(&mut compressor.push(&encoded).map_err(compressor_problem)?);
            }
            None if self.bytes.is_empty() => self.bytes = encoded,
            None => self.bytes.extend_from_slice(&encoded),
        }
        Ok(())
    }
}

/// Returns the compressor after the encoder and its settings, if the rule has one.
fn outer_compression(
    rule: &Rule,
    compressor: compressor::Description,
) -> Result<Option<(compressor::Description, String)>, Problem> {
    match &rule.spec.compression {
        None => Ok(Some((compressor, String::new()))),
        Some(StageSpec { name, settings }) if name == NONE => {
            if settings.is_empty() {
                Ok(None)
            } else {
                Err(no_settings(rule))
            }
        }
        Some(StageSpec { name, settings }) if *name == compressor.compression => {
            Ok(Some((compressor, config_text(settings))))
        }
        Some(StageSpec { name, .. }) => Err(other_stage(
            rule,
            "compression",
            name,
            "compressor",
            &compressor.name,
            &compressor.compression,
        )),
    }
}

/// Returns the name of the compression inside the encoder's format.
fn inner_compression(
    rule: &Rule,
    encoder: &encoder::Description,
    compressor: &compressor::Description,
) -> Result<String, Problem> {
    let known = |name: &str| encoder.compressions.iter().any(|inner| inner.name == name);
    match &rule.spec.compression {
        None if known(&compressor.compression) => Ok(compressor.compression.clone()),
        None => Ok(NONE.into()),
        Some(choice) if !choice.settings.is_empty() => Err(no_settings(rule)),
        Some(choice) if choice.name == NONE || known(&choice.name) => Ok(choice.name.clone()),
        Some(choice) => {
            let known: Vec<_> = encoder.compressions.iter().map(|inner| inner.name.as_str()).collect();
            Err(Problem::settings(format!(
                "rule {:?}: {} has no compression {:?}; use {NONE}, {}",
                rule.name,
                encoder.format,
                choice.name,
                known.join(", ")
            )))
        }
    }
}

fn render(rule: &Rule, call: &Call, suffix: &str) -> Result<String, Problem> {
    let created = DateTime::from_timestamp_nanos(call.task.created.try_into().unwrap_or(i64::MAX));
    let request = renderer::Request {
        rule: rule.name.clone(),
        project: call.project.clone(),
        logstore: call.logstore.clone(),
        shard: call.shard,
        prefix: rule.spec.prefix.clone().unwrap_or_default(),
        partition_format: rule.spec.partition().to_owned(),
        partition_time: call.task.created,
        utc_offset: rule.spec.time_zone.unwrap_or_default().offset(created),
        creation_time: call.task.created,
        number: call.task.number,
        suffix: suffix.to_owned(),
    };
    let key = renderer::render(&config_text(rule.spec.path.as_ref().unwrap_or(&Map::new())), &request)
        .map_err(|error| {
            let renderer::Error::InvalidConfig(problem) = error;
            Problem::settings(format!("rule {:?}: {}: {}", rule.name, problem.path, problem.reason))
        })?;
    // The host rejects the same keys: see `wit/deps/object-path`.
    let is_valid_level = |level: &str| {
        !matches!(level, "" | "." | "..") && !level.contains(|c: char| c == '\\' || c.is_control())
    };
    if key.len() > 1023 || !key.split('/').all(is_valid_level) {
        return Err(Problem::settings(format!(
            "the renderer made an invalid key {key:?}: change its settings"
        )));
    }
    Ok(key)
}

fn other_stage(rule: &Rule, setting: &str, expected: &str, kind: &str, name: &str, makes: &str) -> Problem {
    Problem::settings(format!(
        "rule {:?} has {setting} {expected:?}, but this function's {kind} {name} makes {makes:?}: \
         change the {kind} in spin.toml, or change the rule",
        rule.name
    ))
}

fn no_settings(rule: &Rule) -> Problem {
    Problem::settings(format!("rule {:?}: this compression has no settings: remove them", rule.name))
}

/// Changes the log's index in an error to its index in the body.
fn with_log_offset(error: encoder::Error, logs_before: u32) -> encoder::Error {
    match error {
        encoder::Error::Rejected(encoder::Rejection { log, reason }) => {
            encoder::Error::Rejected(encoder::Rejection { log: logs_before + log, reason })
        }
        error => error,
    }
}

fn encoder_problem(error: encoder::Error) -> Problem {
    match error {
        encoder::Error::InvalidConfig(problem) => {
            Problem::settings(format!("format: {}: {}", problem.path, problem.reason))
        }
        encoder::Error::InvalidBatch(problem) => {
            Problem::new(500, "defect", format!("bug in the function: {problem}"))
        }
        encoder::Error::Rejected(rejection) => {
            Problem::rejected(format!("log {}: {}", rejection.log, rejection.reason))
        }
        encoder::Error::TooLarge(problem) => Problem::too_large(problem),
    }
}

fn compressor_problem(error: compressor::Error) -> Problem {
    match error {
        compressor::Error::InvalidConfig(problem) => {
            Problem::settings(format!("compression: {}: {}", problem.path, problem.reason))
        }
        compressor::Error::TooLarge(problem) => Problem::too_large(problem),
    }
}

fn config_text(settings: &Map<String, Value>) -> String {
    if settings.is_empty() { String::new() } else { json!(settings).to_string() }
}
