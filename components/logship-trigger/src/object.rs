//! The object of a batch: render, encode, compress.

use chrono::DateTime;
use logship_core::batch::LogBatch;
use logship_core::choice::{Choice, NONE};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::digest::Digest;
use crate::problem::Problem;
use crate::rule::{Deliver, Rule};
use crate::stages::compressor::{self, SuffixPlace};
use crate::stages::{encoder, renderer};

/// An object.
#[derive(Debug)]
pub struct Object {
    /// Its key within the bucket.
    pub key: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many logs it has.
    pub rows: usize,
    /// Bytes before compression; an upper estimate where it was compressed inside its format.
    pub raw_bytes: u64,
    /// Its media type.
    pub media_type: String,
    /// What it is checked by: SHA-256, unless the caller that gets it wants another.
    pub checked_by: Digest,
    /// That of its bytes, in hexadecimal.
    pub digest: String,
    /// The stages that made it: name and version.
    pub stages: String,
}

/// Makes the object of a call's logs. All the same for the same rule, stages, task and logs.
///
/// # Errors
/// When the rule and the function's stages don't go together, or a stage refuses.
pub fn make(rule: &Rule, call: &Call, body: &Body) -> Result<Object, Problem> {
    let plan = Plan::new(rule)?;
    let key = render(rule, call, &plan.suffix)?;
    if let Some(wanted) = call.key.as_ref().filter(|wanted| **wanted != key) {
        return Err(Problem::settings(format!(
            "the caller's object is {wanted:?}, and this function would name it {key:?}: its stages are not those of the caller"
        )));
    }
    let mut making = plan.begin()?;
    // Each batch is let go before the next is read: memory that a call has not had yet is what it waits for most.
    body.each(call.task.created_time(), |batch| making.push(&batch))?;
    let rows = making.rows;
    if rows == 0 {
        return Err(Problem::bad_batch("the body has no logs, and an object without logs is none"));
    }
    let (bytes, raw_bytes) = making.finish()?;
    let checked_by = if rule.deliver == Deliver::Caller { call.digest } else { Digest::Sha256 };
    Ok(Object {
        key,
        rows,
        raw_bytes,
        media_type: plan.media_type(),
        checked_by,
        digest: checked_by.of(&bytes),
        stages: plan.stages(),
        bytes,
    })
}

/// Whether the function can make the objects of a rule: returns the stages that would.
///
/// # Errors
/// When the rule and the function's stages don't go together, or a stage refuses its settings.
pub fn check(rule: &Rule, call: &Call) -> Result<String, Problem> {
    let plan = Plan::new(rule)?;
    render(rule, call, &plan.suffix)?;
    plan.begin()?;
    Ok(plan.stages())
}

/// How the stages work together for a rule.
struct Plan {
    encoder: encoder::Description,
    encoder_config: String,
    compressor: Option<(compressor::Description, String)>,
    /// Whether the encoder compresses inside its format.
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
            let compressor = outer(rule, compressor)?;
            let suffix = match &compressor {
                None => encoder.suffix.clone(),
                Some((stage, _)) => match stage.suffix_place {
                    SuffixPlace::BeforeFormat => format!("{}{}", stage.suffix, encoder.suffix),
                    SuffixPlace::AfterFormat => format!("{}{}", encoder.suffix, stage.suffix),
                },
            };
            return Ok(Self {
                encoder_config: text(&encoder_config),
                encoder,
                compressor,
                inner: false,
                suffix,
            });
        }
        let name = inner(rule, &encoder, &compressor)?;
        encoder_config.insert("compression".into(), json!(name));
        let inner = encoder.compressions.iter().find(|inner| inner.name == name);
        let suffix = format!("{}{}", inner.map_or("", |inner| &inner.suffix), encoder.suffix);
        Ok(Self {
            encoder_config: text(&encoder_config),
            encoder,
            compressor: None,
            inner: name != NONE,
            suffix,
        })
    }

    fn begin(&self) -> Result<Making, Problem> {
        let encoder = encoder::Object::open(&self.encoder_config).map_err(encoder_problem)?;
        let compressor = match &self.compressor {
            Some((_, config)) => Some(compressor::Object::open(config).map_err(compressor_problem)?),
            None => None,
        };
        let output = Output { compressor, returned: 0, bytes: vec![] };
        Ok(Making { encoder, inner: self.inner, rows: 0, output })
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

/// The bytes of an object in the making.
struct Making {
    encoder: encoder::Object,
    /// Whether these compress inside their format.
    inner: bool,
    rows: usize,
    output: Output,
}

impl Making {
    fn push(&mut self, batch: &LogBatch) -> Result<(), Problem> {
        let encoded = self.encoder.push(batch);
        self.output.take(encoded.map_err(|error| encoder_problem(at(error, self.rows as u32)))?)?;
        self.rows += batch.len();
        Ok(())
    }

    /// The bytes, and how many they were before compression.
    fn finish(self) -> Result<(Vec<u8>, u64), Problem> {
        let Self { encoder, inner, mut output, .. } = self;
        let size = if inner { encoder.size() } else { 0 };
        output.take(encoder::Object::finish(encoder).map_err(encoder_problem)?)?;
        let Output { compressor, returned, mut bytes } = output;
        if let Some(compressor) = compressor {
            let mut ending = compressor::Object::finish(compressor).map_err(compressor_problem)?;
            bytes.append(&mut ending.trailer);
            bytes.splice(..0, ending.header);
        }
        Ok((bytes, size.max(returned)))
    }
}

/// What an encoder returned, compressed.
struct Output {
    compressor: Option<compressor::Object>,
    /// Bytes that the encoder returned.
    returned: u64,
    bytes: Vec<u8>,
}

impl Output {
    fn take(&mut self, encoded: Vec<u8>) -> Result<(), Problem> {
        self.returned += encoded.len() as u64;
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

/// The compressor behind the encoder, if the rule has one.
fn outer(
    rule: &Rule,
    compressor: compressor::Description,
) -> Result<Option<(compressor::Description, String)>, Problem> {
    match &rule.spec.compression {
        None => Ok(Some((compressor, String::new()))),
        Some(Choice { name, settings }) if name == NONE => {
            if settings.is_empty() {
                Ok(None)
            } else {
                Err(no_settings(rule))
            }
        }
        Some(Choice { name, settings }) if *name == compressor.compression => {
            Ok(Some((compressor, text(settings))))
        }
        Some(Choice { name, .. }) => Err(other_stage(
            rule,
            "compression",
            name,
            "compressor",
            &compressor.name,
            &compressor.compression,
        )),
    }
}

/// The compression inside the encoder's format.
fn inner(
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
                "rule {:?}: {} has no compression {:?}; there is {NONE}, {}",
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
    let key = renderer::render(&text(rule.spec.path.as_ref().unwrap_or(&Map::new())), &request).map_err(
        |error| {
            let renderer::Error::InvalidConfig(problem) = error;
            Problem::settings(format!("rule {:?}: {}: {}", rule.name, problem.path, problem.reason))
        },
    )?;
    // What the host refuses as well: see `wit/deps/object-path`.
    let level = |level: &str| {
        !matches!(level, "" | "." | "..") && !level.contains(|c: char| c == '\\' || c.is_control())
    };
    if key.len() > 1023 || !key.split('/').all(level) {
        return Err(Problem::settings(format!("the renderer made a key that is none: {key:?}")));
    }
    Ok(key)
}

fn other_stage(rule: &Rule, member: &str, wanted: &str, kind: &str, name: &str, makes: &str) -> Problem {
    Problem::settings(format!(
        "rule {:?} wants {member} {wanted:?}, and this function's {kind} is {name}, which makes {makes:?}: \
         put another component into its dependency in spin.toml, or change the rule",
        rule.name
    ))
}

fn no_settings(rule: &Rule) -> Problem {
    Problem::settings(format!("rule {:?}: compression has no settings here: take them out", rule.name))
}

/// The error, with the log's number counted from the beginning of the body.
fn at(error: encoder::Error, before: u32) -> encoder::Error {
    match error {
        encoder::Error::Rejected(encoder::Rejection { log, reason }) => {
            encoder::Error::Rejected(encoder::Rejection { log: before + log, reason })
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
            Problem::new(500, "defect", format!("a defect of the function: {problem}"))
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

fn text(settings: &Map<String, Value>) -> String {
    if settings.is_empty() { String::new() } else { json!(settings).to_string() }
}
