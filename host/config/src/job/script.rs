//! The script of a job: JSON with comments, as the wizard of DataWorks writes it, or the same members in TOML.

use std::collections::BTreeMap;
use std::path::Path;

use logship_batch::time_zone::TimeZone;
use serde::{Deserialize, Deserializer, Serialize};

use super::comments::without_comments;
use super::error::JobError;
use super::mapping::{MappingMode, ReaderColumn};
use super::schedule::Schedule;
use super::template::Template;
use super::{check_name, number};
use crate::limit::Limit;

/// `setting.speed.mbps`, in MB of logs a second.
const MBPS: Limit = Limit::new(1, 10_000);
/// `setting.speed.concurrent`. Each reader has a block in memory.
const CONCURRENT: Limit = Limit::new(1, 64);
/// `batchSize` of the reader.
const BATCH_SIZE: Limit = Limit::new(1, 1000);

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Job {
    /// The type, always `job`.
    #[serde(rename = "type", default)]
    kind: Kind,
    /// The version of the format.
    #[serde(default)]
    version: Version,
    /// The name. An extension of the format, like all members below it but the configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The reader, the writer and their limits.
    pub configuration: Configuration,
    /// The values of parameters, which may have scheduling expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "parameters")]
    pub parameters: BTreeMap<String, Template>,
    /// The schedule. A job without one runs only when it is told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The time zone of times and expressions.
    #[serde(default, alias = "time-zone")]
    pub time_zone: TimeZone,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Job,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Version {
    #[default]
    #[serde(rename = "1.0")]
    V1,
}

/// The reader, the writer and their limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The reader.
    pub reader: Plugin<ReaderPlugin, Reader>,
    /// The writer.
    pub writer: Plugin<WriterPlugin, Writer>,
    /// The limits.
    #[serde(default)]
    pub setting: Setting,
    /// The way in which the columns belong together. An extension of the format.
    #[serde(default, skip_serializing_if = "MappingMode::is_same_row")]
    pub mapping: MappingMode,
}

/// A plugin with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin<K, P> {
    /// The name of the plugin.
    pub plugin: K,
    /// Its parameters.
    pub parameter: P,
}

/// The plugins that read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReaderPlugin {
    /// Log Service.
    #[serde(alias = "LogHub")]
    LogHub,
}

/// The plugins that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriterPlugin {
    /// MaxCompute.
    #[serde(alias = "maxcompute")]
    Odps,
}

/// The parameters of the reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Reader {
    /// The data source. Empty for this service itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datasource: String,
    /// The Logstore.
    pub logstore: String,
    /// The begin of the range, by time of arrival.
    pub begin_date_time: Template,
    /// The end of the range, exclusive.
    pub end_date_time: Template,
    /// The number of log groups of a pull.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u64>,
    /// Has no effect: shards divide the work.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub split_pk: String,
    /// The columns.
    #[serde(deserialize_with = "one_or_many")]
    pub column: Vec<ReaderColumn>,
}

/// The parameters of the writer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Writer {
    /// The data source.
    pub datasource: String,
    /// The table.
    pub table: Template,
    /// True if a run replaces the data of its partition; false if it appends to it.
    #[serde(default)]
    pub truncate: bool,
    /// The partition: `pt=20261201,hh=01`. Empty for a table without partitions.
    #[serde(default)]
    pub partition: Template,
    /// The columns of the table.
    #[serde(deserialize_with = "one_or_many")]
    pub column: Vec<String>,
}

/// The limits of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Setting {
    /// The rate.
    pub speed: Speed,
    /// The limit of dirty rows.
    pub error_limit: ErrorLimit,
}

/// The rate of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Speed {
    /// The largest rate, in MB of logs a second.
    #[serde(deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub mbps: Option<u64>,
    /// The number of shards that are read at the same time.
    #[serde(deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
    /// False if `mbps` does not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<bool>,
    /// Has no effect here: the units of DataWorks.
    #[serde(deserialize_with = "number::optional", skip_serializing)]
    dmu: Option<u64>,
}

/// The limit of dirty rows. Past it, a run fails and writes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorLimit {
    /// The allowed number of dirty rows.
    #[serde(deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// The allowed fraction of dirty rows: 0.02 is 2 %.
    #[serde(deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub percentage: Option<f64>,
}

/// Parses the parameters' values, which may be `$bizdate`, and numbers.
fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Template>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Number(i64),
    }
    let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let parse = |(name, value): (String, Value)| {
        let text = match value {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
        };
        let value = Template::parse_value(&text);
        value
            .map(|value| (name.clone(), value))
            .map_err(|error| serde::de::Error::custom(format!("{name}: {error}")))
    };
    values.into_iter().map(parse).collect()
}

/// Parses a list, or a single `*`.
fn one_or_many<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct List<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a list of columns, or `*`")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            if text != "*" {
                return Err(E::invalid_value(serde::de::Unexpected::Str(text), &self));
            }
            T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|all| vec![all])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = vec![];
            while let Some(item) = list.next_element()? {
                all.push(item);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(List(std::marker::PhantomData))
}

impl Job {
    /// Parses a script. Does not [check](Self::check) it yet. A file that ends with `.toml` is TOML, all others are JSON. A
    /// script without a name gets the one of its file.
    ///
    /// # Errors
    /// [`JobError`], with line and column.
    pub fn parse(script: &str, file: &Path) -> Result<Self, JobError> {
        let script_error = |problem: String| JobError::Script { file: file.display().to_string(), problem };
        let script = script.trim_start_matches('\u{feff}');
        let is_toml = file.extension().is_some_and(|extension| extension == "toml");
        let mut job: Self = if is_toml {
            toml::from_str(script).map_err(|error| script_error(error.to_string()))?
        } else {
            serde_json::from_str(&without_comments(script))
                .map_err(|error| script_error(json_problem(&error)))?
        };
        if job.name.is_empty() {
            job.name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        }
        Ok(job)
    }

    /// Returns the reader.
    pub fn reader(&self) -> &Reader {
        &self.configuration.reader.parameter
    }

    /// Returns the writer.
    pub fn writer(&self) -> &Writer {
        &self.configuration.writer.parameter
    }

    /// Returns the limit of dirty rows.
    pub fn error_limit(&self) -> &ErrorLimit {
        &self.configuration.setting.error_limit
    }

    /// Returns the number of shards that are read at the same time.
    pub fn concurrent(&self) -> usize {
        self.configuration.setting.speed.concurrent.unwrap_or(1) as usize
    }

    /// Returns the largest rate, in bytes of logs a second.
    pub fn rate(&self) -> Option<u64> {
        let Speed { mbps, throttle, .. } = &self.configuration.setting.speed;
        mbps.filter(|_| throttle.unwrap_or(true)).map(|mbps| mbps * 1_000_000)
    }

    /// Checks everything that does not depend on the data sources and the table.
    ///
    /// # Errors
    /// [`JobError::Member`], for the first invalid member.
    pub fn check(&self) -> Result<(), JobError> {
        check_name(&self.name)?;
        let Setting { speed, .. } = &self.configuration.setting;
        let (reader, writer) = (self.reader(), self.writer());
        within("setting.speed.mbps", speed.mbps, MBPS)?;
        within("setting.speed.concurrent", speed.concurrent, CONCURRENT)?;
        within("reader.batchSize", reader.batch_size, BATCH_SIZE)?;
        self.error_limit().check()?;
        for (member, value) in [
            ("reader.logstore", reader.logstore.as_str()),
            ("reader.beginDateTime", reader.begin_date_time.as_str()),
            ("reader.endDateTime", reader.end_date_time.as_str()),
            ("writer.datasource", writer.datasource.as_str()),
            ("writer.table", writer.table.as_str()),
        ] {
            if value.trim().is_empty() {
                return Err(JobError::member(member, "is empty"));
            }
        }
        if reader.column.is_empty() {
            return Err(JobError::member("reader.column", "is empty: name the fields, or use `*`"));
        }
        if writer.column.is_empty() {
            return Err(JobError::member("writer.column", "is empty: name the columns, or use `*`"));
        }
        self.schedule.as_ref().map_or(Ok(()), Schedule::check)
    }

    /// Returns warnings about members that have no effect.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        if !self.reader().split_pk.is_empty() {
            warnings.push("reader.splitPk has no effect: a job is divided by shards".into());
        }
        if self.configuration.setting.speed.dmu.is_some() {
            warnings.push("setting.speed.dmu has no effect here".into());
        }
        warnings
    }
}

/// Describes an error of JSON: line and column first, as compilers do.
fn json_problem(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let position = format!(" at line {line} column {column}");
    let message = text.strip_suffix(&position).unwrap_or(&text);
    if line == 0 { message.to_owned() } else { format!("line {line}, column {column}: {message}") }
}

fn within(member: &'static str, value: Option<u64>, limit: Limit) -> Result<(), JobError> {
    match value {
        Some(value) if !limit.contains(value) => {
            Err(JobError::member(member, format!("{value} is out of range: {limit}")))
        }
        _ => Ok(()),
    }
}

impl ErrorLimit {
    fn check(&self) -> Result<(), JobError> {
        match self.percentage {
            Some(fraction) if !(0.0..=1.0).contains(&fraction) => {
                let problem =
                    format!("{fraction} is out of range: it is a fraction from 0 to 1, where 0.02 is 2 %");
                Err(JobError::member("setting.errorLimit.percentage", problem))
            }
            _ => Ok(()),
        }
    }

    /// Returns true if so many dirty rows of all rows are too many.
    pub fn is_exceeded(&self, dirty: u64, all: u64) -> bool {
        self.record.is_some_and(|record| dirty > record)
            || self.percentage.is_some_and(|fraction| dirty as f64 > fraction * all as f64)
    }
}

#[cfg(test)]
mod tests;
