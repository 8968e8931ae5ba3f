//! Shipping rules.

use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use logship_batch::partition::PartitionBy;
pub use logship_batch::stage_spec::{NONE, StageSpec};
pub use logship_batch::time_zone::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::destination::DestinationConfig;
use crate::siem_rule::SiemRule;

/// A shipping rule: the format of the objects, and their destination.
///
/// In a file it is TOML:
/// ```toml
/// name = "nginx-to-lake"
/// bucket = "lake"
/// prefix = "nginx"
/// partition = "ds=%Y%m%d/%H"
/// time_zone = "Asia/Shanghai"
/// size_mb = 128
/// time_seconds = 300
/// compression = "snappy"
///
/// [[transform]]
/// type = "fields"
/// drop = ["cookie"]
///
/// [format]
/// type = "parquet"
/// columns = [{ key = "__time__", type = "int64" }, { key = "path" }]
///
/// [stages]
/// renderer = "./by-tenant.wasm"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// 3-63 lowercase letters, digits, `-` and `_`, with a letter or digit at both ends.
    pub name: String,
    /// The Logstore that the rule ships. Used when the rule is applied to a service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The bucket. Empty: the destination itself. For a local directory, a folder in it.
    pub bucket: String,
    /// The directory of the objects in the bucket. May be empty.
    pub prefix: String,
    /// Pattern of the levels below the prefix, in the style of `strptime`.
    pub partition: String,
    /// Time zone in which the partition is rendered.
    pub time_zone: TimeZone,
    /// The time that the partition is rendered from: creation of the task, or the hour or day of each log.
    /// The latter gives each hour or day its own object.
    #[serde(skip_serializing_if = "PartitionBy::is_created")]
    pub partition_by: PartitionBy,
    /// Maximum number of open objects for hours or days, 1-64. Each needs instances of the stages.
    #[serde(skip_serializing_if = "is_default_open_partitions")]
    pub open_partitions: u64,
    /// Maximum size of an object before compression, in MB of 1,000,000 bytes: 5-256.
    pub size_mb: u64,
    /// Maximum time that logs wait for an object to fill, in seconds: 300-900.
    pub time_seconds: u64,
    /// Transformers that run before the encoder, in order: each a stage by its name (`fields` is the built-in
    /// `transform-fields`), digest or path, with its settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transform: Vec<StageSpec>,
    /// The format of the objects.
    pub format: StageSpec,
    /// The compression of the objects.
    pub compression: StageSpec,
    /// Settings of the renderer.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub path: Map<String, Value>,
    /// Components that override the built-in stages, by name, digest or path.
    #[serde(skip_serializing_if = "Stages::are_built_in")]
    pub stages: Stages,
    /// The destination with the bucket: a name from the service's settings, or one of the rule's own.
    pub destination: Store,
    /// ARN of the role that writes to the bucket. Empty: the destination's own key is used.
    pub role: String,
    /// True if the rule makes tasks.
    pub enabled: bool,
    /// The first logs of a new rule.
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
pub const MAX_OPEN_PARTITIONS: u64 = 64;

pub fn is_default_open_partitions(open_partitions: &u64) -> bool {
    *open_partitions == DEFAULT_OPEN_PARTITIONS
}

/// The destination that has a rule's bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The oldest stored logs.
    #[default]
    Begin,
    /// Logs received after the rule was created.
    Now,
}

/// The components of a rule that override the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stages {
    /// The encoder. Default: the built-in stage of the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// The compressor. Default: the built-in stage of the compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressor: Option<String>,
    /// The renderer. Default: `object-path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    /// A component with all of these, fused by `logship compose`. It excludes the other fields.
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
}

/// The rules of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleFile {
    /// Rules that write objects.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// Rules that send to SIEMs.
    pub siem: Vec<SiemRule>,
}

impl RuleFile {
    /// Reads a file with one rule, or several as `[[rule]]` and `[[siem]]`. Does not check the rules, and
    /// leaves paths of components unchanged.
    ///
    /// # Errors
    /// [`RuleError::File`], with line and column.
    pub fn read(file: &Path) -> Result<Self, RuleError> {
        let file_error = |problem: String| RuleError::File { file: file.display().to_string(), problem };
        let text = std::fs::read_to_string(file).map_err(|error| file_error(error.to_string()))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| file_error(error.to_string()))?;
        let parse_error = |error: toml::de::Error| file_error(error.to_string());
        if ["rule", "siem"].iter().any(|several| table.get(*several).is_some_and(toml::Value::is_array)) {
            return toml::from_str(&text).map_err(parse_error);
        }
        let rule = toml::from_str(&text).map_err(parse_error)?;
        Ok(Self { rules: vec![rule], siem: vec![] })
    }
}

impl Rule {
    /// Reads a rule from a file. Does not [check](Self::check) it yet: the command line may override it.
    /// Resolves paths of components relative to the folder of the file.
    ///
    /// # Errors
    /// [`RuleError::File`], with line and column.
    pub fn read(file: &Path) -> Result<Self, RuleError> {
        let file_error = |problem: String| RuleError::File { file: file.display().to_string(), problem };
        let text = std::fs::read_to_string(file).map_err(|error| file_error(error.to_string()))?;
        let mut rule: Self = toml::from_str(&text).map_err(|error| file_error(error.to_string()))?;
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
        check_range("size_mb", self.size_mb, 5, 256, "MB")?;
        check_range("time_seconds", self.time_seconds, 300, 900, "seconds")?;
        check_range("open_partitions", self.open_partitions, 1, MAX_OPEN_PARTITIONS, "partitions")?;
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

    /// Returns the maximum size of an object before compression, in bytes.
    pub fn size(&self) -> u64 {
        self.size_mb * 1_000_000
    }

    /// Returns the maximum time that logs wait for an object to fill.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.time_seconds)
    }
}

pub fn check_name(name: &str) -> Result<(), RuleError> {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_valid = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| is_alphanumeric(byte) || matches!(byte, b'-' | b'_'))
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric);
    if is_valid {
        return Ok(());
    }
    let syntax = "3-63 lowercase letters, digits, `-` and `_`, with a letter or digit at both ends";
    Err(RuleError::field("name", format!("{name:?} is invalid: use {syntax}")))
}

fn check_range(field: &'static str, value: u64, min: u64, max: u64, unit: &str) -> Result<(), RuleError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(RuleError::field(field, format!("{value} is out of range: {min}-{max} {unit}")))
}

/// Maximum number of transformers of a rule. Each object needs an instance of each.
const MAX_TRANSFORMERS: usize = 8;

/// Checks the transformers of a rule without loading them.
///
/// # Errors
/// If there are too many.
pub fn check_transforms(choices: &[StageSpec]) -> Result<(), RuleError> {
    if choices.len() > MAX_TRANSFORMERS {
        let problem =
            format!("{} transformers are too many: a rule has {MAX_TRANSFORMERS} at most", choices.len());
        return Err(RuleError::field("transform", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Rule)) -> Option<String> {
        let mut rule = Rule::default();
        change(&mut rule);
        rule.check().err().map(|error| error.to_string())
    }

    #[test]
    fn ranges_match_the_specification() {
        for (size, right) in [(4, false), (5, true), (256, true), (257, false), (0, false)] {
            assert_eq!(problem(|rule| rule.size_mb = size).is_none(), right, "{size} MB");
        }
        for (time, right) in [(299, false), (300, true), (900, true), (901, false)] {
            assert_eq!(problem(|rule| rule.time_seconds = time).is_none(), right, "{time} s");
        }
        for (open, right) in [(0, false), (1, true), (64, true), (65, false)] {
            assert_eq!(problem(|rule| rule.open_partitions = open).is_none(), right, "{open} partitions");
        }
        assert_eq!(
            problem(|rule| rule.size_mb = 257).unwrap(),
            "rule: size_mb: 257 is out of range: 5-256 MB"
        );
    }

    #[test]
    fn names_match_the_specification() {
        let long = "a".repeat(63);
        for name in ["abc", "a-b", "a_1", "0a0", &long] {
            assert_eq!(problem(|rule| rule.name = name.into()), None, "{name}");
        }
        let longer = "a".repeat(64);
        for name in ["", "ab", "-ab", "ab-", "_ab", "aBc", "a b", "a/b", "äbc", &longer] {
            assert!(problem(|rule| rule.name = name.into()).unwrap().contains("name"), "{name}");
        }
    }

    #[test]
    fn file_errors_have_problem_and_position() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rule.toml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Rule::read(&file)
        };
        let rule = read("prefix = 'p'\ntime_zone = '+08:00'\ncompression = { type = 'gzip', level = 9 }\ntransform = ['./t.wasm', { type = 'fields', drop = ['a'] }]\n[stages]\nencoder = './x.wasm'\n").unwrap();
        assert_eq!((rule.prefix.as_str(), rule.size_mb), ("p", 256));
        assert_eq!(rule.compression.settings["level"], 9);
        assert_eq!(rule.time_zone.offset(chrono::DateTime::UNIX_EPOCH), 28_800);
        assert!(rule.stages.encoder.unwrap().starts_with(folder.path().to_str().unwrap()));
        let [from_file, built_in] = &rule.transform[..] else { panic!("{:?}", rule.transform) };
        assert!(from_file.name.starts_with(folder.path().to_str().unwrap()) && from_file.settings.is_empty());
        assert_eq!((built_in.name.as_str(), built_in.settings["drop"][0].as_str()), ("fields", Some("a")));
        assert!(
            problem(|rule| rule.transform = vec![StageSpec::named("fields"); 9])
                .unwrap()
                .contains("8 at max")
        );
        for (text, expected) in [
            ("size = 5", "unknown field `size`"),
            ("size_mb = 'big'", "line 1"),
            ("time_zone = 'Mars'", "no time zone"),
            ("[format]\ncolumns = []", "a name, or a table with `type`"),
            ("name = ", "line 1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("rule.toml"), "{error}");
        }
    }

    #[test]
    fn time_zone_follows_daylight_saving() {
        let zone: TimeZone = "Europe/Berlin".parse().unwrap();
        let at = |text: &str| zone.offset(text.parse().unwrap());
        assert_eq!((at("2026-01-01T00:00:00Z"), at("2026-07-01T00:00:00Z")), (3600, 7200));
    }
}
