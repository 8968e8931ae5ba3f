//! The columns of a table and their values, shared by rules and jobs that write rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The value of each mapped column of a table. Columns without a mapping are null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ColumnMapping {
    /// The columns, each once.
    pub columns: Vec<MappedColumn>,
}

/// A column of a table and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MappedColumn {
    /// The name of the column.
    pub column: String,
    /// The value of the column.
    #[serde(flatten)]
    pub value: ColumnValue,
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnValue {
    /// The value of the log's field with this key; null if the log lacks it. `__time__`, `__time_ns_part__`,
    /// `__receive_time__`, `__topic__`, `__source__` and `__tag__:KEY` are properties of the log and its group, and
    /// `__field__:KEY` is a field with such a key.
    Field(String),
    /// The same text for every log. Parameters of jobs, such as `${bizdate}`, are replaced before a run.
    Constant(String),
    /// A property of the log: `time`, `time_ns_part`, `receive_time`, `topic`, `source`, `tag:KEY`, `shard`, `cursor` or
    /// `index`.
    System(String),
}

impl ColumnMapping {
    /// Maps fields to columns with the same names.
    pub fn same_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let column =
            |name: &str| MappedColumn { column: name.into(), value: ColumnValue::Field(name.into()) };
        Self { columns: names.into_iter().map(column).collect() }
    }

    /// Returns true if no column is mapped.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Returns the member `columns` of the configuration of a row encoder.
    pub fn stage_columns(&self) -> Value {
        json!(self.columns)
    }

    /// Returns the mapping with the constants that `replace` makes of its constants.
    ///
    /// # Errors
    /// The first error of `replace`.
    pub fn with_constants<E>(&self, replace: impl Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        let mut replaced = self.clone();
        for column in &mut replaced.columns {
            if let ColumnValue::Constant(text) = &mut column.value {
                *text = replace(text)?;
            }
        }
        Ok(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_each_value_and_rejects_columns_without_one() {
        let text = json!([
            { "column": "a", "field": "k" },
            { "column": "b", "constant": "${bizdate}" },
            { "column": "c", "system": "time" },
        ]);
        let mapping: ColumnMapping = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(mapping.columns[0].value, ColumnValue::Field("k".into()));
        assert_eq!(mapping.stage_columns(), text);
        for wrong in
            [json!([{ "column": "a" }]), json!([{ "column": "a", "fields": "k" }]), json!([{ "field": "k" }])]
        {
            assert!(serde_json::from_value::<ColumnMapping>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn replaces_constants_only() {
        let text = json!([{ "column": "a", "field": "${x}" }, { "column": "b", "constant": "${x}" }]);
        let mapping: ColumnMapping = serde_json::from_value(text).unwrap();
        let replaced = mapping.with_constants(|text| Ok::<_, ()>(text.replace("${x}", "1"))).unwrap();
        let expected = json!([{ "column": "a", "field": "${x}" }, { "column": "b", "constant": "1" }]);
        assert_eq!(replaced.stage_columns(), expected);
        assert_eq!(mapping.with_constants(|_| Err::<String, _>("no")), Err("no"));
    }
}
