//! Options of stages: a configuration, and the table of a row encoder.

use std::fs;

use serde::Deserialize;
use serde_json::{Map, Value};

use logship_runtime::stage::{RowColumn, Table};

/// Returns the text, read from a file if it begins with `@`.
fn text_or_file(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}")),
        None => Ok(text.to_owned()),
    }
}

/// Returns the configuration, read from a file if it begins with `@`.
pub(super) fn config(text: &str) -> Result<String, String> {
    let text = text_or_file(text)?;
    serde_json::from_str::<Map<String, Value>>(&text)
        .map_err(|error| format!("not a JSON object: {error}"))?;
    Ok(text)
}

/// A table, as users write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    #[serde(default)]
    key: Vec<ColumnText>,
    columns: Vec<ColumnText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnText {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    #[serde(default = "nullable")]
    nullable: bool,
}

fn nullable() -> bool {
    true
}

/// Parses a table, read from a file if it begins with `@`.
pub(super) fn table(text: &str) -> Result<Table, String> {
    let TableText { key, columns } =
        serde_json::from_str(&text_or_file(text)?).map_err(|error| format!("not a table: {error}"))?;
    let columns_of = |columns: Vec<ColumnText>| {
        let column = |ColumnText { name, data_type, nullable }| RowColumn { name, data_type, nullable };
        columns.into_iter().map(column).collect()
    };
    Ok(Table { key: columns_of(key), columns: columns_of(columns) })
}
