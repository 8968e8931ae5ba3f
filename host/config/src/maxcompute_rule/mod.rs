//! Rules that write a Logstore's logs as rows of a table of MaxCompute.

mod check;
mod partition;
mod wire;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::column_mapping::{ColumnMapping, ColumnValue, MappedColumn};
use crate::limit::{MAXCOMPUTE_TIME_SECONDS, NAME_LENGTH, ROWS_SIZE_MB, TRANSFORMERS};
use crate::maxcompute::MaxComputeConfig;
use crate::rule::{StageSpec, Start, TimeZone};
use crate::schema::StageSpecSchema;
use crate::stage_name::ComponentDigest;

pub use self::partition::{
    PARTITION_TIME, PartitionFormat, PartitionFormatError, TimeFormatType, is_partition_value,
};
pub(crate) use self::wire::Configuration;

/// The target type of these rules.
pub const ODPS: &str = "odps";

/// The row encoder of these rules.
pub const ENCODER: &str = "encode-maxcompute";

/// A rule that writes a Logstore's logs as rows of a table of MaxCompute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "table"]))]
pub struct MaxComputeRule {
    /// The name: lowercase letters, digits, `-` and `_`, with a letter or digit at both ends. Names of deleted rules
    /// can't be reused.
    #[schemars(length(min = NAME_LENGTH.min, max = NAME_LENGTH.max))]
    pub name: String,
    /// The Logstore that the rule writes. Required by `logship rule apply`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The name of a data source (`logship source`) with a MaxCompute project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The project, in place of `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<MaxComputeConfig>,
    /// The table. It must exist.
    pub table: String,
    /// Columns and their values: `{ column = "c", field = "k" }`, or `constant` or `system` in place of `field`. Columns
    /// that are not named are null. Default: each column has the field with its name.
    #[serde(skip_serializing_if = "ColumnMapping::is_empty")]
    pub columns: ColumnMapping,
    /// The fields of the table's columns, in the order of the columns, in place of `columns`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// The values of the partition columns, in their order: `__partition_time__` is the log's time, others are fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<String>,
    /// The format of `__partition_time__`: `%Y_%m_%d`.
    pub partition_time_format: String,
    /// The style of `partition_time_format`: `StrfTimeFormat`, or `JavaSimpleDateFormat` for `yyyy_MM_dd`.
    pub time_format_type: TimeFormatType,
    /// The interval to whose start the log's time is rounded down for `__partition_time__`, in seconds.
    #[schemars(range(min = 1))]
    pub partition_seconds: u64,
    /// The time zone of `__partition_time__`, and of times in fields: a name, or an offset such as `+08:00`.
    #[schemars(with = "String")]
    pub time_zone: TimeZone,
    /// True to leave out dirty rows, and to keep them as dead letters. Otherwise a task with one fails.
    pub filter_invalid: bool,
    /// True to create partitions that do not exist.
    pub create_partition: bool,
    /// The largest task, in MB of logs.
    #[schemars(range(min = ROWS_SIZE_MB.min, max = ROWS_SIZE_MB.max))]
    pub size_mb: u64,
    /// The longest time that logs wait for a task to fill, in seconds.
    #[schemars(range(min = MAXCOMPUTE_TIME_SECONDS.min, max = MAXCOMPUTE_TIME_SECONDS.max))]
    pub time_seconds: u64,
    /// The transformers that run before the encoder, in order: stages by name, version or digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<StageSpecSchema>", length(max = TRANSFORMERS.max))]
    pub transform: Vec<StageSpec>,
    /// The row encoder. Default: `encode-maxcompute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// True if the rule writes rows.
    pub enabled: bool,
    /// The first logs that a new rule writes.
    pub from: Start,
}

impl Default for MaxComputeRule {
    fn default() -> Self {
        Self {
            name: String::new(),
            logstore: String::new(),
            source: String::new(),
            connection: None,
            table: String::new(),
            columns: ColumnMapping::default(),
            fields: vec![],
            partition: vec![],
            partition_time_format: "%Y_%m_%d_%H_%M".into(),
            time_format_type: TimeFormatType::default(),
            partition_seconds: 1800,
            time_zone: TimeZone::default(),
            filter_invalid: true,
            create_partition: true,
            size_mb: 256,
            time_seconds: 1800,
            transform: vec![],
            stage: None,
            enabled: true,
            from: Start::default(),
        }
    }
}

impl MaxComputeRule {
    /// Returns the name of the row encoder.
    pub fn encoder(&self) -> &str {
        self.stage.as_deref().unwrap_or(ENCODER)
    }

    /// Returns the value of each column of a table with these columns.
    ///
    /// # Errors
    /// When the rule names more fields than there are columns, or an unknown column.
    pub fn mapping(&self, columns: &[&str]) -> Result<ColumnMapping, String> {
        if !self.columns.is_empty() {
            let is_known = |mapped: &&MappedColumn| {
                columns.iter().any(|known| known.eq_ignore_ascii_case(&mapped.column))
            };
            return match self.columns.columns.iter().find(|mapped| !is_known(mapped)) {
                Some(unknown) => Err(format!(
                    "table {} has no column {}, which `columns` names",
                    self.table, unknown.column
                )),
                None => Ok(self.columns.clone()),
            };
        }
        if self.fields.is_empty() {
            return Ok(ColumnMapping::same_names(columns.iter().copied()));
        }
        if self.fields.len() > columns.len() {
            return Err(format!(
                "`fields` has {} fields, and table {} has {} columns",
                self.fields.len(),
                self.table,
                columns.len()
            ));
        }
        let column = |(field, column): (&String, &&str)| MappedColumn {
            column: (*column).to_owned(),
            value: ColumnValue::Field(field.clone()),
        };
        Ok(ColumnMapping { columns: self.fields.iter().zip(columns).map(column).collect() })
    }

    /// Returns the format of `__partition_time__`.
    ///
    /// # Errors
    /// When the format can't be read.
    pub fn partition_format(&self) -> Result<PartitionFormat, PartitionFormatError> {
        PartitionFormat::new(
            &self.partition_time_format,
            self.time_format_type,
            self.partition_seconds,
            self.time_zone,
        )
    }

    /// Returns the largest task, in bytes.
    pub fn size(&self) -> u64 {
        self.size_mb * 1_000_000
    }

    /// Returns the components that the rule pins by digest.
    pub fn pinned_components(&self) -> impl Iterator<Item = ComponentDigest> {
        let names = self.stage.iter().chain(self.transform.iter().map(|transform| &transform.name));
        names.filter_map(|name| ComponentDigest::pinned_by(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_fields_by_name_by_order_or_by_pairs() {
        let fields = |rule: &MaxComputeRule, columns: &[&str]| {
            rule.mapping(columns).map(|mapping| mapping.stage_columns().to_string())
        };
        let rule = MaxComputeRule { table: "t".into(), ..MaxComputeRule::default() };
        assert_eq!(fields(&rule, &["a"]).unwrap(), r#"[{"column":"a","field":"a"}]"#);
        let ordered = MaxComputeRule { fields: vec!["k".into()], ..rule.clone() };
        assert_eq!(fields(&ordered, &["a", "b"]).unwrap(), r#"[{"column":"a","field":"k"}]"#);
        assert!(fields(&ordered, &[]).unwrap_err().contains("0 columns"));
        let pairs = MaxComputeRule { columns: ColumnMapping::same_names(["b"]), ..rule };
        assert_eq!(fields(&pairs, &["a", "B"]).unwrap(), r#"[{"column":"b","field":"b"}]"#);
        assert!(fields(&pairs, &["a"]).unwrap_err().contains("no column b"));
    }
}
