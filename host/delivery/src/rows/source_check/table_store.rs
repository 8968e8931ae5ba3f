//! Checks of instances of Table Store.

use logship_config::table_store::TableStoreConfig;
use logship_sink::table_store::{Class, TableStore, TableStoreError};

use super::{Check, Checks, Outcome, Owner, Target};

const LIST: &str = "ots:ListTable";
const DESCRIBE: &str = "ots:DescribeTable";
const WRITE: &str = "ots:BatchWriteRow";

/// Tries what a rule does before it sends rows.
pub(super) async fn check(config: &TableStoreConfig, owner: Owner, target: Target<'_>) -> Vec<Check> {
    let mut checks = Checks::new(owner);
    let instance = match TableStore::open("source", config) {
        Ok(instance) => instance,
        Err(error) => {
            // The settings are the user's own, so the error may have them.
            checks.add("open the instance", "", true, Outcome::Failed(error.to_string()));
            return checks.list;
        }
    };
    let attempt = format!("list the tables of instance {}", config.instance);
    // Rules name their table, so they don't need the list.
    checks.try_(&attempt, LIST, target.table.is_none(), instance.tables(), explain).await;
    let Some(table) = target.table else { return checks.list };
    let attempt = format!("describe table {table}");
    let read = instance.table(table, &|| false);
    let described = checks.try_(&attempt, DESCRIBE, true, read, explain).await;
    let attempt = format!("write no rows to table {table}");
    match described {
        Some(_) => {
            checks.try_(&attempt, WRITE, true, instance.check_write(table), explain).await;
        }
        None => checks.add(&attempt, WRITE, true, Outcome::Skipped),
    }
    checks.list
}

fn explain(owner: Owner, error: &TableStoreError) -> Outcome {
    let problem = match error.class {
        Class::Unauthorized => "the key is unknown, or lacks the permission",
        Class::Missing => "the table does not exist",
        Class::Busy => "the server is busy: try again later",
        _ => {
            "the endpoint is unreachable, or does not answer as Table Store: the service's log has its answer"
        }
    };
    let message = owner.shown(error, problem);
    if error.class == Class::Unauthorized { Outcome::Denied(message) } else { Outcome::Failed(message) }
}
