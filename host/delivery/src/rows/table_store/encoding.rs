//! The columns of a rule, as its row encoder gets them.

use logship_config::column_mapping::{ColumnMapping, ColumnValue, MappedColumn};
use logship_config::rule::StageSpec;
use logship_config::table_store_rule::{CellVersion, Conversion, Expression, Origin, TableStoreRule};
use logship_registry::Registry;
use logship_runtime::stage::{RowColumn, Table};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::rows::encode::{RowEncoding, RowEncodingError};

/// Digits of the hash at the beginning of a partition key. Rows of different shards are far from each other by it.
const HASH_BYTES: usize = 2;

/// Opens the stages of a rule for a shard. `stages` are the row encoder and the transformers.
pub(super) fn open(
    registry: &Registry,
    stages: (&str, &[StageSpec]),
    rule: &TableStoreRule,
    shard: &ShardName<'_>,
) -> Result<RowEncoding, RowEncodingError> {
    RowEncoding::new(registry, stages, settings(rule), &mapping(rule, shard), table(rule))
}

/// The name of a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardName<'a> {
    pub(super) project: &'a str,
    pub(super) logstore: &'a str,
    pub(super) shard: u32,
}

impl ShardName<'_> {
    /// Returns the partition key of rows of the shard: `3f9c/web/access`. Its beginning spreads shards over partitions.
    pub(super) fn partition_key(&self) -> String {
        let Self { project, logstore, shard } = self;
        let hash = Sha256::digest(format!("{project}/{logstore}/{shard}"));
        format!("{}/{project}/{logstore}", hex::encode(&hash[..HASH_BYTES]))
    }
}

fn table(rule: &TableStoreRule) -> Table {
    let column =
        |name: String, data_type: &str, nullable| RowColumn { name, data_type: data_type.into(), nullable };
    let key = rule.key_columns().into_iter().map(|(name, data_type)| column(name, data_type, false));
    let others = rule.columns.iter().filter(|(name, _)| !rule.key.contains(name));
    let others = others.map(|(name, expression)| column(name.clone(), expression.data_type(), true));
    Table { key: key.collect(), columns: others.collect() }
}

fn mapping(rule: &TableStoreRule, shard: &ShardName<'_>) -> ColumnMapping {
    let mapped = |column: &str, value| MappedColumn { column: column.into(), value };
    let mut columns: Vec<_> =
        rule.columns.iter().map(|(name, expression)| mapped(name, value(expression))).collect();
    if rule.has_default_key() {
        let values = [
            ColumnValue::Constant(shard.partition_key()),
            ColumnValue::System("shard".into()),
            ColumnValue::System("cursor".into()),
            ColumnValue::System("index".into()),
        ];
        columns.extend(rule.key_columns().iter().zip(values).map(|((name, _), value)| mapped(name, value)));
    } else {
        let fields = rule.key.iter().filter(|name| !rule.columns.contains_key(*name));
        columns.extend(fields.map(|name| mapped(name, value(&rule.expression(name)))));
    }
    ColumnMapping { columns }
}

fn value(expression: &Expression) -> ColumnValue {
    match &expression.origin {
        Origin::Constant(text) => ColumnValue::Constant(text.clone()),
        Origin::Field(field) => match field.as_str() {
            "__shard__" => ColumnValue::System("shard".into()),
            "__cursor__" => ColumnValue::System("cursor".into()),
            "__index__" => ColumnValue::System("index".into()),
            _ => ColumnValue::Field(field.clone()),
        },
    }
}

/// Returns the settings of the row encoder, besides `columns`.
fn settings(rule: &TableStoreRule) -> Map<String, Value> {
    let base = |(name, expression): (&String, &Expression)| match expression.conversion {
        Conversion::Integer(base) if base != 10 => Some((name.clone(), Value::from(base))),
        _ => None,
    };
    let bases: Map<_, _> = rule.columns.iter().filter_map(base).collect();
    let mut settings = Map::new();
    if !bases.is_empty() {
        settings.insert("bases".into(), bases.into());
    }
    if !rule.others {
        settings.insert("others".into(), false.into());
    }
    if !rule.exclude.is_empty() {
        settings.insert("exclude".into(), json!(rule.exclude));
    }
    if rule.version == CellVersion::LogTime {
        settings.insert("version".into(), json!(rule.version));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardName<'_> = ShardName { project: "web", logstore: "access", shard: 3 };

    #[test]
    fn default_key_is_the_position() {
        let rule = TableStoreRule::default();
        let key = format!("{}/web/access", SHARD.partition_key().split('/').next().unwrap());
        assert_eq!(SHARD.partition_key(), key);
        assert_ne!(ShardName { shard: 4, ..SHARD }.partition_key(), key);
        assert_eq!(
            mapping(&rule, &SHARD).stage_columns(),
            json!([
                { "column": "_logstore", "constant": key }, { "column": "_shard", "system": "shard" },
                { "column": "_cursor", "system": "cursor" }, { "column": "_n", "system": "index" },
            ])
        );
        assert!(settings(&rule).is_empty());
    }

    #[test]
    fn own_key_and_columns_have_types_and_bases() {
        let rule: TableStoreRule = toml::from_str(
            r#"
            key = ["device", "at"]
            columns = { at = "(->int 16 time)", raw = "(->blob body)", kind = "'web'", cursor = "__cursor__" }
            others = false
            exclude = ["a"]
            version = "log-time"
            "#,
        )
        .unwrap();
        let Table { key, columns } = table(&rule);
        let types = |columns: &[RowColumn]| {
            columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect::<Vec<_>>()
        };
        assert_eq!(types(&key), ["device string", "at integer"]);
        assert_eq!(types(&columns), ["cursor integer", "kind string", "raw binary"]);
        assert_eq!(
            mapping(&rule, &SHARD).stage_columns(),
            json!([
                { "column": "at", "field": "time" }, { "column": "cursor", "system": "cursor" },
                { "column": "kind", "constant": "web" }, { "column": "raw", "field": "body" },
                { "column": "device", "field": "device" },
            ])
        );
        let expected =
            json!({ "bases": { "at": 16 }, "others": false, "exclude": ["a"], "version": "log-time" });
        assert_eq!(Value::from(settings(&rule)), expected);
    }
}
