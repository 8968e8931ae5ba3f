//! Shipping rules.

use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use logship_batch::partition::PartitionBy;
pub use logship_batch::stage_spec::{NONE, StageSpec};
pub use logship_batch::time_zone::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::destination::DestinationConfig;
use crate::limit::{Limit, NAME_LENGTH, OPEN_PARTITIONS, SIZE_MB, TIME_SECONDS, TRANSFORMERS};
use crate::schema::{PartitionBySchema, StageSpecSchema, TimeZoneSchema};
use crate::stage_name::ComponentDigest;

/// A rule that ships a Logstore's logs as objects.
///
/// It defines the format of the objects and their destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The name: lowercase letters, digits, `-` and `_`, with a letter or digit at both ends. Names of deleted rules
    /// can't be reused.
    #[schemars(length(min = NAME_LENGTH.min, max = NAME_LENGTH.max))]
    pub name: String,
    /// The Logstore that the rule ships. Required by `logship rule apply`, ignored by `logship ship`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The existing bucket of the objects. For a directory: a folder in it. Default: the destination itself.
    pub bucket: String,
    /// The prefix of the object keys.
    pub prefix: String,
    /// The pattern of the key's levels below the prefix, in the style of `strftime`: `ds=%Y%m%d/%H`.
    pub partition: String,
    /// The time zone of the partition: an IANA name, or an offset such as `+08:00`.
    #[schemars(with = "TimeZoneSchema")]
    pub time_zone: TimeZone,
    /// The time that the partition is rendered from. With `hour` or `day`, each hour or day of the logs has objects of
    /// its own.
    #[serde(skip_serializing_if = "PartitionBy::is_created")]
    #[schemars(with = "PartitionBySchema", extend("default" = "created"))]
    pub partition_by: PartitionBy,
    /// The number of open objects for hours or days. Each needs memory for its own instances of the stages.
    #[serde(skip_serializing_if = "is_default_open_partitions")]
    #[schemars(
        range(min = OPEN_PARTITIONS.min, max = OPEN_PARTITIONS.max),
        extend("default" = DEFAULT_OPEN_PARTITIONS)
    )]
    pub open_partitions: u64,
    /// The largest object before compression, in MB of 1,000,000 bytes.
    #[schemars(range(min = SIZE_MB.min, max = SIZE_MB.max))]
    pub size_mb: u64,
    /// The longest time that logs wait for an object to fill, in seconds.
    #[schemars(range(min = TIME_SECONDS.min, max = TIME_SECONDS.max))]
    pub time_seconds: u64,
    /// The transformers that run before the encoder, in order: stages by name, digest or path. `fields` is the built-in
    /// stage `transform-fields`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<StageSpecSchema>", length(max = TRANSFORMERS.max))]
    pub transform: Vec<StageSpec>,
    /// The format of the objects: `json`, `csv` or `parquet`, with its settings.
    #[schemars(with = "StageSpecSchema")]
    pub format: StageSpec,
    /// The compression of the objects: `none`, `snappy`, `gzip` or `zstd`, with its settings.
    #[schemars(with = "StageSpecSchema")]
    pub compression: StageSpec,
    /// The settings of the renderer.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub path: Map<String, Value>,
    /// The components that override the built-in stages.
    #[serde(skip_serializing_if = "Stages::are_built_in")]
    pub stages: Stages,
    /// The destination of the objects: a name from the service's settings, or a table with a destination of the rule's
    /// own and its own key.
    pub destination: Store,
    /// The ARN of the role to assume for writing. Default: the destination's `role`, or else its key.
    pub role: String,
    /// True if the rule makes tasks.
    pub enabled: bool,
    /// The first logs that a new rule ships.
    pub from: Start,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: "ship".into(),
            logstore: String::new(),
            bucket: String::new(),
            prefix: String::new(),
            partition: "%Y/%m/%d/%H/%M".into(),
            time_zone: TimeZone::default(),
            partition_by: PartitionBy::default(),
            open_partitions: DEFAULT_OPEN_PARTITIONS,
            size_mb: 256,
            time_seconds: 300,
            transform: vec![],
            format: StageSpec::named("json"),
            compression: StageSpec::named(NONE),
            path: Map::new(),
            stages: Stages::default(),
            destination: Store::default(),
            role: String::new(),
            enabled: true,
            from: Start::default(),
        }
    }
}

/// Default number of open objects for hours or days.
const DEFAULT_OPEN_PARTITIONS: u64 = 16;

/// Maximum number of open objects for hours or days.
pub const MAX_OPEN_PARTITIONS: u64 = OPEN_PARTITIONS.max;

pub(crate) fn is_default_open_partitions(open_partitions: &u64) -> bool {
    *open_partitions == DEFAULT_OPEN_PARTITIONS
}

/// The destination that has a rule's bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "the name of a destination, or a table with `type`")]
pub enum Store {
    /// A destination of the service's settings, by name.
    Named(String),
    /// A destination of the rule's own, with its own key.
    Own(Box<DestinationConfig>),
}

impl Default for Store {
    fn default() -> Self {
        Self::Named(DEFAULT_DESTINATION.into())
    }
}

/// The destination of rules without one.
pub const DEFAULT_DESTINATION: &str = "default";

/// The first logs of a new rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The oldest stored logs.
    #[default]
    Begin,
    /// Logs received after the rule was created.
    Now,
}

/// The components of a rule that override the built-in stages.
///
/// Each is the name of an added stage (`mine`), a version (`mine@1.2.0`), a digest (`sha256:…`), or for `logship ship` a
/// path (`./mine.wasm`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RuleStages")]
pub struct Stages {
    /// The encoder. Default: the built-in encoder of the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// The compressor. Default: the built-in compressor of the compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressor: Option<String>,
    /// The renderer. Default: `object-path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    /// A component that contains all three, made by `logship compose`. It excludes the other settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
}

impl Stages {
    fn are_built_in(&self) -> bool {
        *self == Self::default()
    }
}

/// An error in a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A field has an invalid value.
    #[error("rule: {field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// The problem, and the valid values.
        problem: String,
    },
    /// The file is not a valid rule.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// The problem, with its position.
        problem: String,
    },
}

impl RuleError {
    /// Returns a [`RuleError::Field`].
    pub fn field(field: &'static str, problem: impl fmt::Display) -> Self {
        Self::Field { field, problem: problem.to_string() }
    }

    /// Returns a [`RuleError::File`].
    pub fn file(file: &Path, problem: impl fmt::Display) -> Self {
        Self::File { file: file.display().to_string(), problem: problem.to_string() }
    }
}

impl Rule {
    /// Parses the text of a rule's file. Does not [check](Self::check) the rule yet: the command line may override it.
    /// Resolves paths of components relative to the folder of the file.
    ///
    /// # Errors
    /// [`RuleError::File`], with line and column.
    pub fn parse(text: &str, file: &Path) -> Result<Self, RuleError> {
        let mut rule: Self = toml::from_str(text).map_err(|error| RuleError::file(file, error))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let Stages { encoder, compressor, renderer, pipeline } = &mut rule.stages;
        let stages = [encoder, compressor, renderer, pipeline].into_iter().flatten();
        for stage in stages.chain(rule.transform.iter_mut().map(|choice| &mut choice.name)) {
            if stage.contains('/') || stage.ends_with(".wasm") {
                let path = folder.join(&*stage);
                // A bare file name would be looked up as a stage name.
                *stage =
                    if folder == Path::new("") { format!("./{stage}") } else { path.display().to_string() };
            }
        }
        Ok(rule)
    }

    /// Checks everything that does not depend on the stages.
    ///
    /// # Errors
    /// [`RuleError::Field`], for the first invalid field.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        check_range("size_mb", self.size_mb, SIZE_MB, "MB")?;
        check_range("time_seconds", self.time_seconds, TIME_SECONDS, "seconds")?;
        check_range("open_partitions", self.open_partitions, OPEN_PARTITIONS, "partitions")?;
        if self.prefix.starts_with('/') || self.partition.starts_with('/') {
            let field = if self.prefix.starts_with('/') { "prefix" } else { "partition" };
            return Err(RuleError::field(field, "begins with `/`, which object keys must not: remove it"));
        }
        if self.prefix.trim() != self.prefix {
            return Err(RuleError::field(
                "prefix",
                "begins or ends with a space, which stores strip: remove it",
            ));
        }
        let Stages { encoder, compressor, renderer, pipeline } = &self.stages;
        if pipeline.is_some() && [encoder, compressor, renderer].into_iter().any(Option::is_some) {
            let problem = "already contains encoder, compressor and renderer: remove these, or fuse others into it with `logship compose`";
            return Err(RuleError::field("stages.pipeline", problem));
        }
        let is_dots = |level: &str| level == "." || level == "..";
        if self.bucket.contains(['/', '\\', '\0']) || is_dots(&self.bucket) {
            return Err(RuleError::field("bucket", format!("{:?} is not a valid bucket name", self.bucket)));
        }
        check_transforms(&self.transform)
    }

    /// Returns the components that the rule pins by digest.
    pub fn pinned_components(&self) -> impl Iterator<Item = ComponentDigest> {
        let Stages { encoder, compressor, renderer, pipeline } = &self.stages;
        let stages = [encoder, compressor, renderer, pipeline].into_iter().flatten();
        let names = stages.chain(self.transform.iter().map(|transform| &transform.name));
        names.filter_map(|name| ComponentDigest::pinned_by(name))
    }

    /// Returns the maximum size of an object before compression, in bytes.
    pub fn size(&self) -> u64 {
        self.size_mb * 1_000_000
    }

    /// Returns the maximum time that logs wait for an object to fill.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.time_seconds)
    }
}

/// Checks the name of a rule.
///
/// # Errors
/// [`RuleError::Field`], if the name is invalid.
pub(crate) fn check_name(name: &str) -> Result<(), RuleError> {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_valid = NAME_LENGTH.contains(bytes.len() as u64)
        && bytes.iter().all(|byte| is_alphanumeric(byte) || matches!(byte, b'-' | b'_'))
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric);
    if is_valid {
        return Ok(());
    }
    let Limit { min, max, .. } = NAME_LENGTH;
    let syntax = "lowercase letters, digits, `-` and `_`, with a letter or digit at both ends";
    Err(RuleError::field("name", format!("{name:?} is invalid: use {min}-{max} {syntax}")))
}

/// Checks a number of a rule.
pub(crate) fn check_range(
    field: &'static str,
    value: u64,
    limit: Limit,
    unit: &str,
) -> Result<(), RuleError> {
    if limit.contains(value) {
        return Ok(());
    }
    let Limit { min, max, .. } = limit;
    Err(RuleError::field(field, format!("{value} is out of range: {min}-{max} {unit}")))
}

/// Checks that a rule that writes rows has either the name of a data source of `product` or a connection, and returns the
/// connection.
pub(crate) fn check_source<'r, C>(
    source: &str,
    connection: Option<&'r C>,
    product: &str,
) -> Result<Option<&'r C>, RuleError> {
    match (source, connection) {
        ("", None) => {
            let problem = format!(
                "is missing: name a data source of {product} (logship source list), or set `connection`"
            );
            Err(RuleError::field("source", problem))
        }
        ("", own) => Ok(own),
        (_, None) => Ok(None),
        (_, Some(_)) => Err(RuleError::field("connection", "is set besides `source`: remove one of them")),
    }
}

/// Checks the transformers of a rule without loading them.
///
/// # Errors
/// If there are too many.
pub(crate) fn check_transforms(choices: &[StageSpec]) -> Result<(), RuleError> {
    if !TRANSFORMERS.contains(choices.len() as u64) {
        let (count, max) = (choices.len(), TRANSFORMERS.max);
        let problem = format!("{count} transformers are too many: a rule has {max} at most");
        return Err(RuleError::field("transform", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
