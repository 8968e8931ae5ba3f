use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::transform_options::TransformOptions;
use logship_batch::reserved::FIELD_PREFIX;
use logship_config::rule::{PartitionBy, Rule, RuleError, StageSpec, TimeZone};

/// Options that override a rule.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rule")]
pub(super) struct RuleOptions {
    /// Puts objects under this key prefix.
    #[arg(long)]
    prefix: Option<String>,
    /// Pattern of the key after the prefix, rendered from the time of --partition-by: ds=%Y%m%d/%H
    /// [default: %Y/%m/%d/%H/%M]
    #[arg(long, value_name = "PATTERN")]
    partition: Option<String>,
    /// Time zone of the partition: Asia/Shanghai, +08:00 [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<TimeZone>,
    /// Partitions by the task's creation time (`created`), or by each log's `hour` or `day`; late logs then go to
    /// their own hour or day [default: created]
    #[arg(long, value_name = "WHAT")]
    partition_by: Option<PartitionBy>,
    /// Limits the open objects of hours or days, 1-64. Each uses memory. At the limit, the least recently used
    /// object is finished [default: 16]
    #[arg(long, value_name = "N")]
    open_partitions: Option<u64>,
    /// Limits objects to this size before compression, 5-256 MB [default: 256]
    #[arg(long = "size", value_name = "MB")]
    size_mb: Option<u64>,
    /// Limits how long logs wait for an object to fill, 300-900 seconds [default: 300]
    #[arg(long = "time", value_name = "SECONDS")]
    time_seconds: Option<u64>,
    #[command(flatten)]
    transforms: TransformOptions,
    /// Format of objects: json, csv or parquet [default: json]
    #[arg(long)]
    format: Option<String>,
    /// Columns of CSV or Parquet, for Parquet with types: __time__:int64,path,status:int32.
    /// `logship ship` infers missing columns from the first lines of each file.
    #[arg(long, value_name = "KEY[:TYPE],…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Overrides a setting of the format, as JSON or text: header=true. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Compression of objects: none, snappy, gzip or zstd [default: none]
    #[arg(long)]
    compression: Option<String>,
    /// Encodes with this stage, a name or a path: ./my-encoder.wasm
    #[arg(long, value_name = "STAGE")]
    encoder: Option<String>,
    /// Compresses with this stage.
    #[arg(long, value_name = "STAGE")]
    compressor: Option<String>,
    /// Renders object keys with this stage.
    #[arg(long, value_name = "STAGE")]
    renderer: Option<String>,
    /// Uses this component of `logship compose` as encoder, compressor and renderer.
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["encoder", "compressor", "renderer"])]
    pipeline: Option<String>,
}

impl RuleOptions {
    /// Applies the options to a rule.
    pub(super) fn apply_to(&self, mut rule: Rule) -> Result<Rule, Failure> {
        override_with(&mut rule.prefix, &self.prefix);
        override_with(&mut rule.partition, &self.partition);
        override_with(&mut rule.time_zone, &self.time_zone);
        override_with(&mut rule.partition_by, &self.partition_by);
        override_with(&mut rule.open_partitions, &self.open_partitions);
        override_with(&mut rule.size_mb, &self.size_mb);
        override_with(&mut rule.time_seconds, &self.time_seconds);
        self.transforms.apply_to(&mut rule.transform)?;
        // A new format starts without the settings of the old one.
        if let Some(name) = self.format.as_ref().filter(|name| **name != rule.format.name) {
            rule.format = StageSpec::named(name);
        }
        override_with(&mut rule.compression, &self.compression.as_ref().map(StageSpec::named));
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
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| format!("--set {setting}: use KEY=VALUE, such as --set header=true"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            settings.insert(key.to_owned(), value);
        }
        if !self.columns.is_empty() {
            let columns =
                self.columns.iter().map(|column| parse_column(column)).collect::<Result<Vec<_>, _>>()?;
            set_columns(settings, &rule.format.name, columns.into_iter());
        }
        Ok(rule)
    }
}

/// Overrides a setting with an option, if given.
pub(super) fn override_with<T: Clone>(setting: &mut T, option: &Option<T>) {
    if let Some(option) = option {
        setting.clone_from(option);
    }
}

/// Splits `KEY:TYPE` at the last colon. The prefixes `__tag__:` and `__field__:` have a colon too.
fn parse_column(column: &str) -> Result<(String, Option<String>), RuleError> {
    const TYPES: [&str; 6] = ["string", "boolean", "int32", "int64", "float", "double"];
    let without_field = column.strip_prefix(FIELD_PREFIX).unwrap_or(column);
    let without_tag = without_field.strip_prefix("__tag__:").unwrap_or(without_field);
    let prefix = column.len() - without_tag.len();
    match column[prefix..].rsplit_once(':') {
        None => Ok((column.to_owned(), None)),
        Some((key, kind)) if TYPES.contains(&kind) => {
            Ok((column[..prefix + key.len()].to_owned(), Some(kind.to_owned())))
        }
        Some((_, kind)) => {
            let problem = format!("{column}: unknown type {kind:?}: use one of {}", TYPES.join(", "));
            Err(RuleError::field("columns", problem))
        }
    }
}

/// Sets the columns of a format: keys, and for Parquet also types.
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
