//! Warnings about the names of columns that readers of a table confuse.

use std::collections::HashMap;

use serde_json::Value;

use crate::rule::Rule;

impl Rule {
    /// Warns about columns that differ only in case, and about those named like a level of the objects' path, such as
    /// `dt=2026-11-30`. Hive, Athena, Spark and DuckDB take both for one column.
    pub fn column_warnings(&self) -> Vec<String> {
        let columns = self.format.settings.get("columns").and_then(Value::as_array);
        let name = |column: &Value| column.as_str().or_else(|| column["key"].as_str()).map(str::to_owned);
        let columns: Vec<String> = columns.into_iter().flatten().filter_map(name).collect();
        let mut warnings = same_but_for_case(&columns);
        let path = format!("{}/{}", self.prefix, self.partition);
        let levels = path.split('/').filter_map(|level| level.split_once('=').map(|(name, _)| name));
        for level in levels.filter(|level| !level.is_empty()) {
            if let Some(column) = columns.iter().find(|column| column.eq_ignore_ascii_case(level)) {
                warnings.push(format!(
                    "column {column:?} is named like the level {level}=… of the path, and readers that take levels for columns (Hive, Athena, Spark, DuckDB) show only one of them: rename the column, or the level in `prefix` or `partition`"
                ));
            }
        }
        warnings
    }
}

fn same_but_for_case(columns: &[String]) -> Vec<String> {
    let (mut first, mut warnings) = (HashMap::new(), vec![]);
    for column in columns {
        if let Some(known) = first.insert(column.to_lowercase(), column) {
            warnings.push(format!(
                "columns {known:?} and {column:?} differ only in case, and Hive, Athena, Spark and DuckDB take them for one: rename one of the fields with a transform"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn warnings(columns: Value, prefix: &str, partition: &str) -> Vec<String> {
        let mut rule = Rule { prefix: prefix.into(), partition: partition.into(), ..Rule::default() };
        rule.format.settings.insert("columns".into(), columns);
        rule.column_warnings()
    }

    #[test]
    fn warns_about_columns_that_readers_confuse() {
        let typed = json!([{ "key": "Status", "type": "int32" }, { "key": "status" }, { "key": "path" }]);
        let found = warnings(typed, "", "%Y/%m");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("columns \"Status\" and \"status\" differ only in case"), "{found:?}");
        let found = warnings(json!(["DT", "hour", "a"]), "region=eu/", "dt=%Y-%m-%d/hour=%H");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("column \"DT\" is named like the level dt=…"), "{found:?}");
        assert!(warnings(json!(["a", "region2"]), "region=eu/", "%Y").is_empty());
        assert!(Rule::default().column_warnings().is_empty());
    }
}
