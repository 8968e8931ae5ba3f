//! Checks of MaxCompute projects.

use logship_config::maxcompute::MaxComputeConfig;
use logship_sink::maxcompute::{self, Class, MaxComputeError, TableRef};

use super::{Check, Checks, Outcome, Owner, Target};

/// The rights of the checks, as MaxCompute names them.
const READ_PROJECT: &str = "odps:Read";
const DESCRIBE: &str = "odps:Describe";
const UPDATE: &str = "odps:Update";

/// Tries what a job does before it sends rows. An upload session that is not committed changes nothing, and expires.
pub(super) async fn check(config: &MaxComputeConfig, owner: Owner, target: Target<'_>) -> Vec<Check> {
    let mut checks = Checks::new(owner);
    let project = match maxcompute::open(config) {
        Ok(project) => project,
        Err(error) => {
            // The settings are the user's own, so the error may have them.
            checks.add("open the project", "", true, Outcome::Failed(error.to_string()));
            return checks.list;
        }
    };
    let name = &config.project;
    let reached = checks
        .try_(&format!("read project {name}"), READ_PROJECT, false, project.check_project(), explain)
        .await;
    let Some(table) = target.table else {
        let has_answer = reached.is_some();
        let outcome = if has_answer { Outcome::Passed } else { Outcome::Skipped };
        checks.add("reach the project; name a table to check more", READ_PROJECT, true, outcome);
        return checks.list;
    };
    if let Err(error) = maxcompute::check_name("table", table) {
        checks.add("read the schema of the table", DESCRIBE, true, Outcome::Failed(error.to_string()));
        return checks.list;
    }
    let read = project.table(table);
    let schema =
        checks.try_(&format!("read the schema of table {table}"), DESCRIBE, true, read, explain).await;
    let attempt = format!("open an upload session of table {table}");
    match schema {
        None => checks.add(&attempt, UPDATE, true, Outcome::Skipped),
        Some(schema) if !schema.partition_keys.is_empty() && target.partition.is_none() => {
            let keys: Vec<_> = schema.partition_keys.iter().map(|key| format!("{}=…", key.name)).collect();
            let attempt = format!("{attempt}: name a partition, {}", keys.join(","));
            checks.add(&attempt, UPDATE, false, Outcome::Skipped);
        }
        Some(_) => {
            let place = TableRef {
                table: table.to_owned(),
                partition: target.partition.map(str::to_owned),
                ..TableRef::default()
            };
            checks.try_(&attempt, UPDATE, true, project.create_session(&place), explain).await;
        }
    }
    checks.list
}

fn explain(owner: Owner, error: &MaxComputeError) -> Outcome {
    let problem = match (error.class(), error.code.as_str()) {
        (Class::Unauthorized, _) => "the key is unknown, or lacks the permission",
        (_, "NoSuchPartition") => "NoSuchPartition: the table has no such partition",
        (_, "MissingPartitionSpec") => "MissingPartitionSpec: name a value for each partition column",
        (Class::Configuration, _) => "the project or table does not exist",
        (Class::Wait, _) => "too many requests: try again later",
        _ => {
            "the endpoint is unreachable, or does not answer as MaxCompute: the service's log has its answer"
        }
    };
    let message = owner.shown(error, problem);
    if error.class() == Class::Unauthorized { Outcome::Denied(message) } else { Outcome::Failed(message) }
}
