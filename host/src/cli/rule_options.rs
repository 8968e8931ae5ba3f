use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::transform_options::TransformOptions;
use crate::rule::{Choice, PartitionBy, Rule, RuleError, TimeZone};

/// The rule, and what of it is given here instead.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rule")]
pub(super) struct RuleOptions {
    /// Directory that objects go to, the first levels of their keys.
    #[arg(long)]
    prefix: Option<String>,
    /// Pattern of the levels below, rendered from the time of the task, or as --partition-by says: ds=%Y%m%d/%H
    /// [default: %Y/%m/%d/%H/%M]
    #[arg(long, value_name = "PATTERN")]
    partition: Option<String>,
    /// Time zone of the partition: Asia/Shanghai, +08:00 [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<TimeZone>,
    /// What the partition is rendered from: `created`, the time of the task; `hour` or `day`, those of each log: an
    /// object has the logs of one then, late ones too [default: created]
    #[arg(long, value_name = "WHAT")]
    partition_by: Option<PartitionBy>,
    /// Objects of hours or days that are open at one time, 1-64; each takes memory of its own. For one more, that which
    /// got no log for longest is finished [default: 16]
    #[arg(long, value_name = "N")]
    open_partitions: Option<u64>,
    /// The largest object before compression, 5-256 MB [default: 256]
    #[arg(long = "size", value_name = "MB")]
    size_mb: Option<u64>,
    /// The longest that logs wait for an object to fill, 300-900 seconds [default: 300]
    #[arg(long = "time", value_name = "SECONDS")]
    time_seconds: Option<u64>,
    #[command(flatten)]
    transforms: TransformOptions,
    /// json, csv or parquet [default: json]
    #[arg(long)]
    format: Option<String>,
    /// Columns of a CSV or Parquet object, for Parquet with types: __time__:int64,path,status:int32.
    /// Without them they are found from the first lines of each file.
    #[arg(long, value_name = "KEY[:TYPE],…", value_delimiter = ',')]
    columns: Vec<String>,
    /// A setting of the format, its value as JSON or as text: header=true. May come again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// none, snappy, gzip or zstd [default: none]
    #[arg(long)]
    compression: Option<String>,
    /// The component that encodes, a name or a path: ./my-encoder.wasm
    #[arg(long, value_name = "STAGE")]
    encoder: Option<String>,
    /// The component that compresses.
    #[arg(long, value_name = "STAGE")]
    compressor: Option<String>,
    /// The component that names objects.
    #[arg(long, value_name = "STAGE")]
    renderer: Option<String>,
    /// The component that has encoder, compressor and renderer in one, as `logship compose` makes it.
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["encoder", "compressor", "renderer"])]
    pipeline: Option<String>,
}

impl RuleOptions {
    /// The rule, with what was given on the command line put over it.
    pub(super) fn over(&self, mut rule: Rule) -> Result<Rule, Failure> {
        put(&mut rule.prefix, &self.prefix);
        put(&mut rule.partition, &self.partition);
        put(&mut rule.time_zone, &self.time_zone);
        put(&mut rule.partition_by, &self.partition_by);
        put(&mut rule.open_partitions, &self.open_partitions);
        put(&mut rule.size_mb, &self.size_mb);
        put(&mut rule.time_seconds, &self.time_seconds);
        self.transforms.over(&mut rule.transform)?;
        // Settings of one format mean nothing to another.
        if let Some(name) = self.format.as_ref().filter(|name| **name != rule.format.name) {
            rule.format = Choice::named(name);
        }
        put(&mut rule.compression, &self.compression.as_ref().map(Choice::named));
        for (stage, given) in [
            (&mut rule.stages.encoder, &self.encoder),
            (&mut rule.stages.compressor, &self.compressor),
            (&mut rule.stages.renderer, &self.renderer),
            (&mut rule.stages.pipeline, &self.pipeline),
        ] {
            if given.is_some() {
                stage.clone_from(given);
            }
        }
        let settings = &mut rule.format.settings;
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                format!("--set {setting}: a setting is KEY=VALUE, such as --set header=true")
            })?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            settings.insert(key.to_owned(), value);
        }
        if !self.columns.is_empty() {
            let columns = self.columns.iter().map(|column| typed(column)).collect::<Result<Vec<_>, _>>()?;
            set_columns(settings, &rule.format.name, columns.into_iter());
        }
        Ok(rule)
    }
}

pub(super) fn put<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(given) = given {
        place.clone_from(given);
    }
}

/// `KEY:TYPE`; the type is behind the last colon, and the key of a tag has one of its own.
fn typed(column: &str) -> Result<(String, Option<String>), RuleError> {
    const TYPES: [&str; 6] = ["string", "boolean", "int32", "int64", "float", "double"];
    let prefix = if column.starts_with("__tag__:") { "__tag__:".len() } else { 0 };
    match column[prefix..].rsplit_once(':') {
        None => Ok((column.to_owned(), None)),
        Some((key, kind)) if TYPES.contains(&kind) => {
            Ok((column[..prefix + key.len()].to_owned(), Some(kind.to_owned())))
        }
        Some((_, kind)) => {
            let problem = format!("{column}: there is no type {kind:?}; there is {}", TYPES.join(", "));
            Err(RuleError::field("columns", problem))
        }
    }
}

/// Puts columns into the settings of a format: keys alone, or for Parquet with their types.
pub(super) fn set_columns(
    settings: &mut Map<String, Value>,
    format: &str,
    columns: impl Iterator<Item = (String, Option<String>)>,
) {
    let column = |(key, kind): (String, Option<String>)| match kind {
        _ if format != "parquet" => json!(key),
        Some(kind) => json!({ "key": key, "type": kind }),
        None => json!({ "key": key }),
    };
    settings.insert("columns".into(), columns.map(column).collect());
}
