//! Shipping rules.

use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use logship_core::choice::{Choice, NONE};
pub use logship_core::partition::PartitionBy;
pub use logship_core::time_zone::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::destination::DestinationConfig;
use crate::siem::rule::SiemRule;
use crate::transforms;

/// A shipping rule: how logs become objects, and where these go.
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
    /// The logstore that it ships, for who applies the rule to a service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The bucket; empty: the destination itself. For a local directory, a folder in it.
    pub bucket: String,
    /// The directory of the bucket that objects go to; may be empty.
    pub prefix: String,
    /// Pattern of the levels below the prefix, in the style of `strptime`.
    pub partition: String,
    /// Time zone in which the partition is rendered.
    pub time_zone: TimeZone,
    /// What the partition is rendered from: when the task was created, or the hour or day of each log, which is in an
    /// object of its own then.
    #[serde(skip_serializing_if = "PartitionBy::is_created")]
    pub partition_by: PartitionBy,
    /// Objects of hours or days that are open at one time, 1-64. Each has instances of the stages.
    #[serde(skip_serializing_if = "is_usual")]
    pub open_partitions: u64,
    /// The largest object before compression, in MB of 1,000,000 bytes: 5-256.
    pub size_mb: u64,
    /// How long logs wait for an object to fill, in seconds: 300-900.
    pub time_seconds: u64,
    /// What transforms the logs before they are encoded, one after the other: a stage by its name (`fields` is the
    /// built-in `transform-fields`), digest or path, with its settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transform: Vec<Choice>,
    /// How logs are encoded.
    pub format: Choice,
    /// How objects are compressed.
    pub compression: Choice,
    /// Settings of the renderer.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub path: Map<String, Value>,
    /// Which component serves each stage, by name, digest or path; by default, the one built in.
    #[serde(skip_serializing_if = "Stages::are_built_in")]
    pub stages: Stages,
    /// The store that has the bucket: one that the service's settings name, or one of the rule's own.
    pub destination: Store,
    /// ARN of the role that writes to the bucket; none: the destination's own key does.
    pub role: String,
    /// Whether tasks are made.
    pub enabled: bool,
    /// What logs a new rule begins with.
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
            open_partitions: OPEN_PARTITIONS,
            size_mb: 256,
            time_seconds: 300,
            transform: vec![],
            format: Choice::named("json"),
            compression: Choice::named(NONE),
            path: Map::new(),
            stages: Stages::default(),
            destination: Store::default(),
            role: String::new(),
            enabled: true,
            from: Start::default(),
        }
    }
}

/// Objects of hours or days that are open at one time, where a rule does not say it.
const OPEN_PARTITIONS: u64 = 16;

/// Objects of hours or days that are open at one time, at most.
pub(crate) const MOST_OPEN_PARTITIONS: u64 = 64;

pub(crate) fn is_usual(open_partitions: &u64) -> bool {
    *open_partitions == OPEN_PARTITIONS
}

/// The store that has a rule's bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a destination, or a table with `type`")]
pub enum Store {
    /// One that the settings of the service name.
    Named(String),
    /// One of the rule's own, with a key of its own.
    Own(Box<DestinationConfig>),
}

impl Default for Store {
    fn default() -> Self {
        Self::Named(DEFAULT_DESTINATION.into())
    }
}

/// The destination of rules that name none.
pub const DEFAULT_DESTINATION: &str = "default";

/// What logs a new rule begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The oldest that are there.
    #[default]
    Begin,
    /// What comes after the rule was made.
    Now,
}

/// The components of a rule, where they aren't the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stages {
    /// What encodes; by default the built-in stage of the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// What compresses; by default the built-in stage of the compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressor: Option<String>,
    /// What names objects; by default `object-path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    /// A component that has all of them, fused by `logship compose`; then none of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
}

impl Stages {
    fn are_built_in(&self) -> bool {
        *self == Self::default()
    }
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A field has a value that it may not have.
    #[error("rule: {field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The file can't be read as a rule.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong, and where.
        problem: String,
    },
}

impl RuleError {
    /// A [`RuleError::Field`].
    pub fn field(field: &'static str, problem: impl fmt::Display) -> Self {
        Self::Field { field, problem: problem.to_string() }
    }
}

/// The rules of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleFile {
    /// Those that write objects.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// Those that send to SIEMs.
    pub siem: Vec<SiemRule>,
}

impl RuleFile {
    /// Reads a file: one rule, or several as `[[rule]]` and `[[siem]]`. They are not checked yet, and paths of
    /// components stay as they are.
    ///
    /// # Errors
    /// [`RuleError::File`], with line and column.
    pub fn read(file: &Path) -> Result<Self, RuleError> {
        let refused = |problem: String| RuleError::File { file: file.display().to_string(), problem };
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        let wrong = |error: toml::de::Error| refused(error.to_string());
        if ["rule", "siem"].iter().any(|several| table.get(*several).is_some_and(toml::Value::is_array)) {
            return toml::from_str(&text).map_err(wrong);
        }
        let rule = toml::from_str(&text).map_err(wrong)?;
        Ok(Self { rules: vec![rule], siem: vec![] })
    }
}

impl Rule {
    /// Reads a rule from a file. It is not [checked](Self::check) yet: the command line may change
    /// it. Paths of components are taken from the folder of the file.
    ///
    /// # Errors
    /// [`RuleError::File`], with line and column.
    pub fn read(file: &Path) -> Result<Self, RuleError> {
        let refused = |problem: String| RuleError::File { file: file.display().to_string(), problem };
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        let mut rule: Self = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let Stages { encoder, compressor, renderer, pipeline } = &mut rule.stages;
        let stages = [encoder, compressor, renderer, pipeline].into_iter().flatten();
        for stage in stages.chain(rule.transform.iter_mut().map(|choice| &mut choice.name)) {
            if stage.contains('/') || stage.ends_with(".wasm") {
                let path = folder.join(&*stage);
                // A bare file name would be taken for that of a built-in stage.
                *stage =
                    if folder == Path::new("") { format!("./{stage}") } else { path.display().to_string() };
            }
        }
        Ok(rule)
    }

    /// Checks what can be checked without its stages.
    ///
    /// # Errors
    /// [`RuleError::Field`], for the first field that is wrong.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        within("size_mb", self.size_mb, 5, 256, "MB")?;
        within("time_seconds", self.time_seconds, 300, 900, "seconds")?;
        within("open_partitions", self.open_partitions, 1, MOST_OPEN_PARTITIONS, "partitions")?;
        if self.prefix.starts_with('/') || self.partition.starts_with('/') {
            let field = if self.prefix.starts_with('/') { "prefix" } else { "partition" };
            return Err(RuleError::field(field, "begins with `/`: keys of objects don't; take it out"));
        }
        if self.prefix.trim() != self.prefix {
            return Err(RuleError::field(
                "prefix",
                "begins or ends with a blank: stores take that away; take it out",
            ));
        }
        let Stages { encoder, compressor, renderer, pipeline } = &self.stages;
        if pipeline.is_some() && [encoder, compressor, renderer].into_iter().any(Option::is_some) {
            let problem = "has encoder, compressor and renderer in it: take these out, or fuse others into it with `logship compose`";
            return Err(RuleError::field("stages.pipeline", problem));
        }
        let climbs = |level: &str| level == "." || level == "..";
        if self.bucket.contains(['/', '\\', '\0']) || climbs(&self.bucket) {
            return Err(RuleError::field("bucket", format!("{:?} is no name of a bucket", self.bucket)));
        }
        transforms::check(&self.transform)
    }

    /// The largest object before compression, in bytes.
    pub fn size(&self) -> u64 {
        self.size_mb * 1_000_000
    }

    /// How long logs wait for an object to fill.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.time_seconds)
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), RuleError> {
    let end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let lawful = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| end(byte) || matches!(byte, b'-' | b'_'))
        && bytes.first().is_some_and(end)
        && bytes.last().is_some_and(end);
    if lawful {
        return Ok(());
    }
    let law = "3-63 lowercase letters, digits, `-` and `_`, with a letter or digit at both ends";
    Err(RuleError::field("name", format!("{name:?} is not of {law}")))
}

fn within(field: &'static str, value: u64, least: u64, most: u64, unit: &str) -> Result<(), RuleError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(RuleError::field(field, format!("{value} is out of range: {least}-{most} {unit}")))
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
    fn ranges_end_where_the_specification_says() {
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
    fn names_are_those_of_the_specification() {
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
    fn a_file_says_what_is_wrong_and_where() {
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
        let [of_a_file, built_in] = &rule.transform[..] else { panic!("{:?}", rule.transform) };
        assert!(of_a_file.name.starts_with(folder.path().to_str().unwrap()) && of_a_file.settings.is_empty());
        assert_eq!((built_in.name.as_str(), built_in.settings["drop"][0].as_str()), ("fields", Some("a")));
        assert!(
            problem(|rule| rule.transform = vec![Choice::named("fields"); 9]).unwrap().contains("8 at most")
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
    fn a_place_has_the_offset_of_the_season() {
        let zone: TimeZone = "Europe/Berlin".parse().unwrap();
        let at = |text: &str| zone.offset(text.parse().unwrap());
        assert_eq!((at("2026-01-01T00:00:00Z"), at("2026-07-01T00:00:00Z")), (3600, 7200));
    }
}
