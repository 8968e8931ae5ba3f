//! The column mapping of row encoders: the value of each log for each column of a table.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::rows::{Positions, Table};
use crate::{Batch, Error, FIELD_PREFIX, Result};

/// A column and its value: exactly one of `field`, `constant` and `system`.
///
/// ```json
/// {"column": "status", "field": "status"}
/// {"column": "env", "constant": "prod"}
/// {"column": "at", "system": "time"}
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "schemars")]
pub struct MappedColumn {
    /// The name of the table's column.
    pub column: String,
    /// The key of the log's field. `__time__`, `__time_ns_part__`, `__receive_time__`, `__topic__`, `__source__` and
    /// `__tag__:KEY` are the log's own time, the time when the Logstore received it, and the properties of its group.
    /// `__field__:KEY` is a field with such a key.
    #[serde(default)]
    pub field: Option<String>,
    /// The same text for every log.
    #[serde(default)]
    pub constant: Option<String>,
    /// A property of the log: `time`, `time_ns_part`, `receive_time`, `topic`, `source`, `tag:KEY`, `shard`, `cursor` (of
    /// the log's group) or `index` (of the log in its group).
    #[serde(default)]
    pub system: Option<String>,
}

/// The source of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Null,
    Field(String),
    Constant(String),
    Topic,
    Origin,
    Tag(String),
    Time,
    NanosPart,
    ReceiveTime,
    Shard,
    Cursor,
    Index,
}

impl Source {
    fn of(column: &MappedColumn, path: &str) -> Result<Self> {
        match (&column.field, &column.constant, &column.system) {
            (Some(field), None, None) => Self::of_field(field, path),
            (None, Some(constant), None) => Ok(Self::Constant(constant.clone())),
            (None, None, Some(name)) => Self::of_system(name).ok_or_else(|| {
                let known =
                    "time, time_ns_part, receive_time, topic, source, tag:KEY, shard, cursor or index";
                Error::config(format!("{path}.system"), format!("unknown property {name:?}; use {known}"))
            }),
            _ => {
                let reason = format!(
                    "column {:?} needs exactly one of `field`, `constant` and `system`",
                    column.column
                );
                Err(Error::config(path, reason))
            }
        }
    }

    fn of_field(field: &str, path: &str) -> Result<Self> {
        Ok(match field {
            "" => return Err(Error::config(format!("{path}.field"), "empty key; name a field")),
            "__time__" => Self::Time,
            "__time_ns_part__" => Self::NanosPart,
            "__receive_time__" | "__tag__:__receive_time__" => Self::ReceiveTime,
            "__topic__" => Self::Topic,
            "__source__" => Self::Origin,
            FIELD_PREFIX => Self::Field(String::new()),
            _ => match field.strip_prefix("__tag__:") {
                Some(tag) => Self::Tag(tag.to_owned()),
                None => Self::Field(field.to_owned()),
            },
        })
    }

    fn of_system(name: &str) -> Option<Self> {
        Some(match name {
            "time" => Self::Time,
            "time_ns_part" => Self::NanosPart,
            "receive_time" => Self::ReceiveTime,
            "topic" => Self::Topic,
            "source" => Self::Origin,
            "shard" => Self::Shard,
            "cursor" => Self::Cursor,
            "index" => Self::Index,
            _ => Self::Tag(name.strip_prefix("tag:")?.to_owned()),
        })
    }
}

/// The sources of the values of all columns of a table: first those of its key, then the others.
///
/// ```
/// use logship_stage::mapping::{MappedColumn, Mapping, Value};
/// use logship_stage::rows::{Column, Positions, Table};
/// use logship_stage::{BatchBuilder, config};
///
/// let column = |name: &str| Column { name: name.into(), data_type: "string".into(), nullable: true };
/// let table = Table { key: vec![], columns: vec![column("status"), column("unmapped")] };
/// let mapped: Vec<MappedColumn> = serde_json::from_str(r#"[{"column": "status", "field": "code"}]"#).unwrap();
/// let mapping = Mapping::new(&mapped, &table, |mapped, column| mapped == column)?;
/// let batch = BatchBuilder::new().log(7, &[("code", "200")]).log(8, &[]).build();
/// let positions =
///     Positions { shard: 0, cursors: vec![5, 5], indexes: vec![0, 1], receive_times: vec![9, 9] };
/// let values = mapping.read(&batch, &positions);
/// assert_eq!(values.value(0, 0), Value::Bytes(b"200"));
/// assert_eq!([values.value(0, 1), values.value(1, 0)], [Value::Missing; 2]);
/// # Ok::<(), logship_stage::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    sources: Vec<Source>,
    /// The columns of each field, by its key.
    fields: HashMap<String, Vec<usize>>,
}

impl Mapping {
    /// Creates the mapping of a table. `is_same` compares a mapped name with a column's name. Columns without a mapping
    /// are null.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a column that is invalid or mapped twice, and [`Error::InvalidTable`] for one that the
    /// table lacks.
    pub fn new(
        columns: &[MappedColumn],
        table: &Table,
        is_same: impl Fn(&str, &str) -> bool,
    ) -> Result<Self> {
        let names: Vec<_> = table.key.iter().chain(&table.columns).map(|column| &column.name).collect();
        let mut sources = vec![Source::Null; names.len()];
        for (index, mapped) in columns.iter().enumerate() {
            let path = format!("columns[{index}]");
            let source = Source::of(mapped, &path)?;
            let Some(at) = names.iter().position(|name| is_same(&mapped.column, name)) else {
                return Err(Error::table(
                    &mapped.column,
                    format!("the table has no such column; {}", has(&names)),
                ));
            };
            if sources[at] != Source::Null {
                let reason = format!("column {:?} is mapped twice; map it once", mapped.column);
                return Err(Error::config(format!("{path}.column"), reason));
            }
            sources[at] = source;
        }
        let mut fields: HashMap<String, Vec<usize>> = HashMap::new();
        for (column, source) in sources.iter().enumerate() {
            if let Source::Field(key) = source {
                fields.entry(key.clone()).or_default().push(column);
            }
        }
        Ok(Self { sources, fields })
    }

    /// Returns true if the column has a mapping.
    pub fn is_mapped(&self, column: usize) -> bool {
        self.sources[column] != Source::Null
    }

    /// Looks up the values of a batch.
    pub fn read<'a>(&'a self, batch: &'a Batch, positions: &'a Positions) -> Values<'a> {
        let columns = self.sources.iter().map(|source| values(source, batch, positions)).collect();
        let mut values = Values { columns, batch };
        self.place_fields(batch, &mut values);
        values
    }

    /// Fills in the field of each log in each column of fields. The last field of a repeated key counts.
    fn place_fields(&self, batch: &Batch, values: &mut Values<'_>) {
        let raw = batch.raw();
        let columns_of: Vec<&[usize]> =
            raw.keys.iter().map(|key| self.fields.get(key).map_or(&[][..], Vec::as_slice)).collect();
        let mut first = 0;
        for (log, &end) in raw.field_ends.iter().enumerate() {
            for field in first..end as usize {
                for &column in columns_of[raw.field_keys[field] as usize] {
                    if let Column::Fields(fields) = &mut values.columns[column] {
                        fields[log] = field as u32 + 1;
                    }
                }
            }
            first = end as usize;
        }
    }
}

fn has(names: &[&String]) -> String {
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    format!("its columns are {}", names.join(", "))
}

/// The value of a log in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// The log lacks the key, or the column has no mapping.
    Missing,
    /// A value: usually text, but any bytes are possible.
    Bytes(&'a [u8]),
    /// Unix seconds, and the nanoseconds within the second.
    Time(u32, u32),
    /// A number: the nanoseconds, shard, cursor or index.
    Number(u64),
}

/// The values of a column for the logs of a batch.
#[derive(Debug)]
enum Column<'a> {
    /// No log has a value.
    Null,
    /// All logs have the same value.
    Constant(&'a [u8]),
    /// For each log, one more than the index of its field in the batch; 0 if the log lacks the key.
    Fields(Vec<u32>),
    /// For each group of the batch, its value.
    Groups(Vec<Option<&'a [u8]>>),
    /// For each log, Unix seconds; and the nanoseconds within the second, or none.
    Times(&'a [u32], &'a [u32]),
    /// For each log, a number.
    Numbers(Vec<u64>),
}

fn values<'a>(source: &'a Source, batch: &'a Batch, positions: &'a Positions) -> Column<'a> {
    let raw = batch.raw();
    let groups = |value: &dyn Fn(&'a crate::LogGroup) -> Option<&'a [u8]>| {
        Column::Groups(raw.groups.iter().map(value).collect())
    };
    match source {
        Source::Null => Column::Null,
        Source::Field(_) => Column::Fields(vec![0; batch.len()]),
        Source::Constant(text) => Column::Constant(text.as_bytes()),
        Source::Topic => groups(&|group| Some(group.topic.as_bytes())),
        Source::Origin => groups(&|group| Some(group.source.as_bytes())),
        Source::Tag(key) => groups(&|group| {
            let tag = group.tags.iter().rev().find(|tag| tag.key == *key);
            tag.map(|tag| tag.value.as_bytes())
        }),
        Source::Time => Column::Times(&raw.times, &raw.nanos),
        Source::ReceiveTime => Column::Times(&positions.receive_times, &[]),
        Source::NanosPart if raw.nanos.is_empty() => Column::Null,
        Source::NanosPart => Column::Numbers(raw.nanos.iter().map(|&nanos| nanos.into()).collect()),
        Source::Shard => Column::Numbers(vec![positions.shard.into(); batch.len()]),
        Source::Cursor => Column::Numbers(positions.cursors.clone()),
        Source::Index => Column::Numbers(positions.indexes.iter().map(|&index| index.into()).collect()),
    }
}

/// The values of a batch's logs for the columns of a table.
#[derive(Debug)]
pub struct Values<'a> {
    columns: Vec<Column<'a>>,
    batch: &'a Batch,
}

impl<'a> Values<'a> {
    /// Returns true if no log has a value in the column.
    pub fn is_null(&self, column: usize) -> bool {
        matches!(self.columns[column], Column::Null)
    }

    /// Returns the value of a log.
    #[inline(always)]
    pub fn value(&self, column: usize, log: usize) -> Value<'a> {
        let raw = self.batch.raw();
        match &self.columns[column] {
            Column::Null => Value::Missing,
            Column::Constant(bytes) => Value::Bytes(bytes),
            Column::Fields(fields) => match fields[log] {
                0 => Value::Missing,
                field => Value::Bytes(field_value(raw, field as usize - 1)),
            },
            Column::Groups(values) => {
                values[raw.log_groups[log] as usize].map_or(Value::Missing, Value::Bytes)
            }
            Column::Times(times, nanos) => Value::Time(times[log], nanos.get(log).copied().unwrap_or(0)),
            Column::Numbers(numbers) => Value::Number(numbers[log]),
        }
    }
}

/// Returns the value of a field.
#[inline(always)]
pub fn field_value(raw: &crate::LogBatch, field: usize) -> &[u8] {
    let begin = field.checked_sub(1).map_or(0, |before| raw.value_ends[before] as usize);
    &raw.values[begin..raw.value_ends[field] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;
    use crate::rows::Column as TableColumn;

    fn table(names: &[&str]) -> Table {
        let column =
            |name: &&str| TableColumn { name: (*name).into(), data_type: "string".into(), nullable: true };
        Table {
            key: names[..1].iter().map(column).collect(),
            columns: names[1..].iter().map(column).collect(),
        }
    }

    fn mapping(columns: &str, names: &[&str]) -> Result<Mapping> {
        let columns: Vec<MappedColumn> = serde_json::from_str(columns).unwrap();
        Mapping::new(&columns, &table(names), |mapped, name| mapped == name)
    }

    #[test]
    fn each_source_has_its_value() {
        let columns = r#"[{"column":"k","system":"cursor"},{"column":"a","field":"a"},{"column":"b","field":"a"},
            {"column":"c","constant":"x"},{"column":"d","field":"__time__"},{"column":"e","field":"__tag__:host"},
            {"column":"f","system":"receive_time"},{"column":"g","field":"__field__:__time__"},
            {"column":"h","system":"index"},{"column":"i","system":"shard"},{"column":"j","field":"__topic__"},
            {"column":"l","field":"__time_ns_part__"}]"#;
        let names = ["k", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "l", "m"];
        let mapping = mapping(columns, &names).unwrap();
        let batch = BatchBuilder::new()
            .group("t", "s", &[("host", "first"), ("host", "last")])
            .log(7, &[("a", "1"), ("a", "2"), ("__time__", "forged")])
            .nanos(5)
            .build();
        let positions = Positions { shard: 3, cursors: vec![9], indexes: vec![4], receive_times: vec![8] };
        let values = mapping.read(&batch, &positions);
        let found: Vec<_> = (0..names.len()).map(|column| values.value(column, 0)).collect();
        let (bytes, number) = (|text: &'static str| Value::Bytes(text.as_bytes()), Value::Number);
        let expected = [
            number(9),
            bytes("2"),
            bytes("2"),
            bytes("x"),
            Value::Time(7, 5),
            bytes("last"),
            Value::Time(8, 0),
            bytes("forged"),
            number(4),
            number(3),
            bytes("t"),
            number(5),
            Value::Missing,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn rejects_invalid_mappings_by_path() {
        let error = |columns| mapping(columns, &["k", "a"]).unwrap_err().to_string();
        let none = error(r#"[{"column":"a"}]"#);
        assert!(none.starts_with("columns[0]: column \"a\" needs exactly one of"), "{none}");
        let both = error(r#"[{"column":"k","field":"a"},{"column":"a","field":"a","constant":""}]"#);
        assert!(both.starts_with("columns[1]: "), "{both}");
        let twice = error(r#"[{"column":"a","field":"a"},{"column":"a","field":"b"}]"#);
        assert!(twice.starts_with("columns[1].column: column \"a\" is mapped twice"), "{twice}");
        let unknown = error(r#"[{"column":"z","field":"a"}]"#);
        assert_eq!(unknown, "the table: column z: the table has no such column; its columns are k, a");
        let system = error(r#"[{"column":"a","system":"tim"}]"#);
        assert!(system.starts_with("columns[0].system: unknown property \"tim\""), "{system}");
        assert!(error(r#"[{"column":"a","field":""}]"#).starts_with("columns[0].field: empty key"));
    }
}
