use std::collections::BTreeMap;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use super::connect::{self, Connect};
use super::task::{TaskFilter, fetch};
use super::{Failure, bar};
use crate::service::keys::Access;

/// Reads the objects of tasks that succeeded, and compares them with what the tasks say of them.
///
/// The service reads each object where it is, whole. What is missing or has other bytes is listed, and the command
/// fails.
#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    #[command(flatten)]
    filter: TaskFilter,
    #[command(flatten)]
    connect: Connect,
}

impl VerifyCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client(Access::Read)?;
            let mut query = self.filter.query();
            query.push(("status", "success".into()));
            let (mut tasks, _) = fetch(&client, &query, usize::MAX).await?;
            // Some have no object: those of which no log was left, and those that send to a SIEM.
            tasks.retain(|task| task["sha256"] != "");
            let bar = bar::new(Some(tasks.iter().filter_map(|task| task["storedBytes"].as_u64()).sum()));
            let (mut count, mut wrong, mut bytes, mut rows) = (0, 0, 0, 0);
            let mut unseen = BTreeMap::new();
            for task in &tasks {
                let path = format!("/tasks/{}", task["id"].as_str().unwrap_or_default());
                let shown: Value = client.get(&path, &[("type", "verify")]).await?;
                for object in shown["objects"].as_array().into_iter().flatten() {
                    count += 1;
                    let stored = object["storedBytes"].as_u64().unwrap_or(0);
                    bar.inc(stored);
                    if let Some(why) = object["found"]["unseen"].as_str() {
                        *unseen.entry(why.to_owned()).or_insert(0) += 1;
                        continue;
                    }
                    match problem(object) {
                        None => {
                            bytes += stored;
                            rows += object["rows"].as_u64().unwrap_or(0);
                        }
                        Some(problem) => {
                            wrong += 1;
                            let key = object["object"].as_str().unwrap_or_default();
                            bar.suspend(|| println!("{key}: {problem}"));
                        }
                    }
                }
            }
            bar.finish_and_clear();
            let hidden: usize = unseen.values().sum();
            println!(
                "{} of {} objects are as their tasks say: {} logs, {}",
                count - wrong - hidden,
                count,
                HumanCount(rows),
                HumanBytes(bytes)
            );
            unseen.iter().for_each(|(why, count)| println!("{count}: {why}"));
            match (wrong, hidden) {
                (0, 0) => Ok(()),
                (0, hidden) => Err(format!("{hidden} were not looked at").into()),
                (wrong, 0) => Err(format!("{wrong} are not").into()),
                (wrong, hidden) => Err(format!("{wrong} are not, and {hidden} were not looked at").into()),
            }
        })
    }
}

/// What is wrong with an object of a task.
fn problem(object: &Value) -> Option<String> {
    let found = &object["found"];
    if let Some(error) = found["error"].as_str() {
        return Some(error.to_owned());
    }
    if found.is_null() {
        return Some("it is not there".into());
    }
    if found["sha256"] == object["sha256"] {
        return None;
    }
    Some(format!(
        "it has {} bytes with sha256 {}, and should have {} with {}",
        found["bytes"], found["sha256"], object["storedBytes"], object["sha256"]
    ))
}
