//! The table of a rule: checked before the first row, or created.

use std::time::{Duration, Instant};

use logship_config::table_store_rule::{CellVersion, TableStoreRule};
use logship_sink::table_store::table::{KeyColumn, TableSchema, show_key};
use logship_sink::table_store::{Class, Stop, TableStore, TableStoreError};

use crate::engine::error::{Failure, TaskError};
use crate::rows::table_store::error::TableProblem;

/// The largest difference of versions from the server's clock, in seconds: a day, the service's default; five years, for
/// rules whose versions are the times of logs.
const VERSION_DEVIATION: u64 = 86_400;
const LONG_VERSION_DEVIATION: u64 = 5 * 366 * 86_400;

/// The longest time until a new table is there.
const CREATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Checks that the table exists and has the rule's key. Creates it if the rule says so.
pub(super) async fn ensure(
    sink: &TableStore,
    rule: &TableStoreRule,
    stop: Stop<'_>,
) -> Result<(), TaskError> {
    let begun = Instant::now();
    let mut is_created = false;
    loop {
        match sink.table(&rule.table, stop).await {
            Ok(found) => return Ok(check(rule, &found)?),
            Err(error) if error.class != Class::Missing => return Err(error.into()),
            Err(_) if !rule.create_table => {
                return Err(TableProblem::Missing { table: rule.table.clone() }.into());
            }
            // A new table is there after a while.
            Err(error) if is_created && begun.elapsed() > CREATION_TIMEOUT => return Err(error.into()),
            Err(_) if is_created => tokio::time::sleep(Duration::from_millis(500)).await,
            Err(_) => {
                sink.create_table(&rule.table, &schema(rule), stop).await?;
                tracing::info!(rule = rule.name, table = rule.table, "created a table of Table Store");
                is_created = true;
            }
        }
        if stop() {
            return Err(TaskError::Stopping);
        }
    }
}

/// Checks that the table can get rows of the rule. Writes nothing.
pub(super) async fn probe(sink: &TableStore, rule: &TableStoreRule) -> Result<(), Failure> {
    match sink.table(&rule.table, &|| false).await {
        Ok(found) => check(rule, &found)?,
        // The first task creates it.
        Err(error) if error.class == Class::Missing && rule.create_table => return Ok(()),
        Err(error) if error.class == Class::Missing => {
            return Err(TableProblem::Missing { table: rule.table.clone() }.into());
        }
        Err(error) => return Err(error.into()),
    }
    let written: Result<(), TableStoreError> = sink.check_write(&rule.table).await;
    Ok(written?)
}

fn schema(rule: &TableStoreRule) -> TableSchema {
    let deviation = match rule.version {
        CellVersion::Server => VERSION_DEVIATION,
        CellVersion::LogTime => LONG_VERSION_DEVIATION,
    };
    TableSchema { key: key(rule), max_versions: 1, version_deviation: deviation }
}

fn key(rule: &TableStoreRule) -> Vec<KeyColumn> {
    rule.key_columns().iter().map(|(name, data_type)| KeyColumn::new(name, data_type)).collect()
}

fn check(rule: &TableStoreRule, found: &TableSchema) -> Result<(), TableProblem> {
    let (table, expected) = (rule.table.clone(), key(rule));
    if found.key.iter().any(|column| column.is_auto_increment) {
        return Err(TableProblem::AutoIncrement { table });
    }
    if found.key != expected {
        return Err(TableProblem::Key { table, found: show_key(&found.key), expected: show_key(&expected) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_must_be_the_same() {
        let rule = TableStoreRule { table: "logs".into(), ..TableStoreRule::default() };
        let mut found = schema(&rule);
        check(&rule, &found).unwrap();
        found.key[3].is_auto_increment = true;
        assert!(check(&rule, &found).unwrap_err().to_string().contains("auto-increment"));
        found.key.truncate(2);
        let problem = check(&rule, &found).unwrap_err().to_string();
        assert!(
            problem.contains("(_logstore string, _shard integer), and the rule writes (_logstore"),
            "{problem}"
        );
    }
}
