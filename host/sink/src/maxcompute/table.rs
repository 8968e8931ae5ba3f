//! Tables: their names, partitions and schemas.

use serde::{Deserialize, Serialize};

/// A table, or a partition of one, that a session writes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableRef {
    /// The table.
    pub table: String,
    /// The partition, all levels: `pt=20261201,hh=01`. `None` if the table has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// True to replace the rows of the partition when the session is committed.
    #[serde(default)]
    pub overwrite: bool,
    /// True to create the partition if it does not exist.
    #[serde(default)]
    pub create_partition: bool,
}

impl TableRef {
    /// Returns the place for messages: `table t, partition pt=1`.
    pub fn place(&self) -> String {
        match &self.partition {
            Some(partition) => format!("table {}, partition {partition}", self.table),
            None => format!("table {}", self.table),
        }
    }
}

/// The schema of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableSchema {
    /// The columns that rows have, in order.
    pub columns: Vec<TableColumn>,
    /// The columns of partitions.
    pub partition_keys: Vec<TableColumn>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Answered")]
pub struct TableColumn {
    /// The name, in lower case.
    pub name: String,
    /// The type, as the server writes it: `decimal(10,2)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// True if the column may be null.
    pub nullable: bool,
    /// The comment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// A column as servers answer it. Some have both names of the flag.
#[derive(Deserialize)]
struct Answered {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: Option<Flag>,
    #[serde(rename = "isNullable")]
    is_nullable: Option<Flag>,
    comment: Option<String>,
}

/// Some servers write flags as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

impl Flag {
    fn is_false(&self) -> bool {
        match self {
            Self::Bool(flag) => !flag,
            Self::Text(text) => text.eq_ignore_ascii_case("false"),
        }
    }
}

impl From<Answered> for TableColumn {
    fn from(answered: Answered) -> Self {
        let Answered { name, data_type, nullable, is_nullable, comment } = answered;
        let nullable = ![nullable, is_nullable].iter().flatten().any(Flag::is_false);
        Self { name, data_type, nullable, comment: comment.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_schemas_of_both_servers() {
        let text = r#"{"columns":[{"name":"a","type":"bigint","comment":null,"nullable":true,"isNullable":true,"column_id":"x"},
            {"name":"b","type":"decimal(10,2)","isNullable":false},{"name":"c","type":"string","isNullable":"false"}],
            "partitionKeys":[{"name":"pt","type":"string"}],"clusterInfo":{}}"#;
        let schema: TableSchema = serde_json::from_str(text).unwrap();
        let nullable: Vec<_> = schema.columns.iter().map(|column| column.nullable).collect();
        assert_eq!(nullable, [true, false, false]);
        assert_eq!(schema.columns[1].data_type, "decimal(10,2)");
        assert_eq!(schema.partition_keys[0].name, "pt");
    }
}
