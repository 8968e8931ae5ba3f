//! Rules that write a Logstore's logs as rows of a table of Table Store.

mod check;
mod expression;
mod wire;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limit::{NAME_LENGTH, ROWS_SIZE_MB, ROWS_TIME_SECONDS, TRANSFORMERS};
use crate::rule::{StageSpec, Start};
use crate::schema::StageSpecSchema;
use crate::stage_name::ComponentDigest;
use crate::table_store::TableStoreConfig;

pub use self::expression::{Conversion, Expression, Origin};

/// The target type of these rules.
pub const OTS: &str = "ots";

/// The row encoder of these rules.
pub const ENCODER: &str = "rows-tablestore";

/// The columns of the primary key of a rule that names none, with their types. The first is the partition key.
pub const DEFAULT_KEY: [(&str, &str); 4] =
    [("_logstore", "string"), ("_shard", "integer"), ("_cursor", "integer"), ("_n", "integer")];

/// A rule that writes a Logstore's logs as rows of a table of Table Store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "table"]))]
pub struct TableStoreRule {
    /// The name: lowercase letters, digits, `-` and `_`, with a letter or digit at both ends. Names of deleted rules
    /// can't be reused.
    #[schemars(length(min = NAME_LENGTH.min, max = NAME_LENGTH.max))]
    pub name: String,
    /// The Logstore that the rule writes. Required by `logship rule apply`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The name of a data source (`logship source`) with an instance of Table Store.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The instance, in place of `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<TableStoreConfig>,
    /// The table.
    pub table: String,
    /// The columns of the primary key, 1 to 4; the first is the partition key. Each is a column of `columns`, or a field.
    /// Rows with the same key overwrite each other. Default: the key `_logstore`, `_shard`, `_cursor`, `_n`, which each
    /// log has for itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub key: Vec<String>,
    /// Columns and their values: a field, a constant in single quotes, or a conversion such as `(->int 10 FIELD)`,
    /// `(->double FIELD)`, `(->bool FIELD)`, `(->blob FIELD)`. `__time__`, `__topic__`, `__source__` and `__tag__:NAME` are
    /// properties of the log.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Expression>,
    /// Fields and properties that get no column of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// True if fields and properties that `columns` does not use get a column with their name.
    pub others: bool,
    /// `put` to replace whole rows, `update` to keep columns that others write.
    pub write: WriteMode,
    /// The version of cells: `server`, or the log's time, so that late retries never replace newer values.
    pub version: CellVersion,
    /// True to create the table if it does not exist.
    pub create_table: bool,
    /// The largest task, in MB of rows.
    #[schemars(range(min = ROWS_SIZE_MB.min, max = ROWS_SIZE_MB.max))]
    pub size_mb: u64,
    /// The longest time that logs wait for a task to fill, in seconds.
    #[schemars(range(min = ROWS_TIME_SECONDS.min, max = ROWS_TIME_SECONDS.max))]
    pub time_seconds: u64,
    /// The transformers that run before the encoder, in order: stages by name, version or digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<StageSpecSchema>", length(max = TRANSFORMERS.max))]
    pub transform: Vec<StageSpec>,
    /// The row encoder. Default: `rows-tablestore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// True if the rule writes rows.
    pub enabled: bool,
    /// The first logs that a new rule writes.
    pub from: Start,
}

/// The treatment of existing rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// A row replaces an existing one.
    #[default]
    Put,
    /// A row adds its columns to an existing one.
    Update,
}

/// The version of cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CellVersion {
    /// The server's clock.
    #[default]
    Server,
    /// The log's time. It must be within the table's `deviation_cell_version_in_sec` of the server's clock.
    LogTime,
}

impl Default for TableStoreRule {
    fn default() -> Self {
        Self {
            name: String::new(),
            logstore: String::new(),
            source: String::new(),
            connection: None,
            table: String::new(),
            key: vec![],
            columns: BTreeMap::new(),
            exclude: vec![],
            others: true,
            write: WriteMode::default(),
            version: CellVersion::default(),
            create_table: false,
            size_mb: 64,
            time_seconds: 30,
            transform: vec![],
            stage: None,
            enabled: true,
            from: Start::default(),
        }
    }
}

impl TableStoreRule {
    /// Returns the name of the row encoder.
    pub fn encoder(&self) -> &str {
        self.stage.as_deref().unwrap_or(ENCODER)
    }

    /// Returns true if the key is a log's position, so that no two logs have the same.
    pub fn has_default_key(&self) -> bool {
        self.key.is_empty()
    }

    /// Returns the columns of the primary key with their types.
    pub fn key_columns(&self) -> Vec<(String, &'static str)> {
        if self.has_default_key() {
            return DEFAULT_KEY.map(|(name, data_type)| (name.to_owned(), data_type)).to_vec();
        }
        let column = |name: &String| (name.clone(), self.expression(name).data_type());
        self.key.iter().map(column).collect()
    }

    /// Returns the expression of a column.
    pub fn expression(&self, column: &str) -> Expression {
        self.columns.get(column).cloned().unwrap_or_else(|| Expression::field(column))
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
