use std::collections::BTreeMap;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use super::connect::{self, Connect};
use super::task::{TaskFilter, fetch};
use super::verify_store::StoreOptions;
use super::{Failure, bar};
use crate::print::outln;
use logship_server::keys::Access;

/// Verifies the objects of successful tasks against the tasks' digests, or the stored logs.
///
/// The service reads each object completely. The command lists objects that are missing, have other bytes, or have other
/// heads of the hash chain in their metadata, and fails if any exist. With --store, it verifies the log groups in the data
/// directory instead. Rows of tables are not read back: MaxCompute's are counted, Table Store's have no digest.
#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    #[command(flatten)]
    filter: TaskFilter,
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    connect: Connect,
}

impl VerifyCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.store.is_set() {
            return self.store.run(&self.connect.data);
        }
        connect::run(async {
            let client = self.connect.client(Access::Read)?;
            let mut query = self.filter.query();
            query.push(("status", "success".into()));
            let (mut tasks, _) = fetch(&client, &query, usize::MAX).await?;
            // Tasks without objects: all logs were filtered out, or the task sends to a SIEM.
            tasks.retain(|task| task["sha256"] != "");
            let bar = bar::new(Some(tasks.iter().filter_map(|task| task["storedBytes"].as_u64()).sum()));
            let (mut count, mut mismatched, mut bytes, mut rows) = (0, 0, 0, 0);
            let (mut unseen, mut unread) = (BTreeMap::new(), BTreeMap::new());
            for task in &tasks {
                let path = format!("/tasks/{}", task["id"].as_str().unwrap_or_default());
                let shown: Value = client.get(&path, &[("type", "verify")]).await?;
                for object in shown["objects"].as_array().into_iter().flatten() {
                    let stored = object["storedBytes"].as_u64().unwrap_or(0);
                    bar.inc(stored);
                    if let Some(reason) = object["found"]["unread"].as_str() {
                        let (partitions, rows) = unread.entry(reason.to_owned()).or_insert((0, 0));
                        *partitions += 1;
                        *rows += object["rows"].as_u64().unwrap_or(0);
                        continue;
                    }
                    count += 1;
                    if let Some(reason) = object["found"]["unseen"].as_str() {
                        *unseen.entry(reason.to_owned()).or_insert(0) += 1;
                        continue;
                    }
                    match mismatch(object).or_else(|| head_mismatch(object, &shown)) {
                        None => {
                            bytes += stored;
                            rows += object["rows"].as_u64().unwrap_or(0);
                        }
                        Some(mismatch) => {
                            mismatched += 1;
                            let key = object["object"].as_str().unwrap_or_default();
                            bar.suspend(|| outln!("{key}: {mismatch}"));
                        }
                    }
                }
            }
            bar.finish_and_clear();
            let unverified: usize = unseen.values().sum();
            outln!(
                "{} of {} objects match their tasks: {} logs, {}",
                count - mismatched - unverified,
                count,
                HumanCount(rows),
                HumanBytes(bytes)
            );
            unseen.iter().for_each(|(reason, count)| outln!("{count}: {reason}"));
            for (reason, (partitions, rows)) in &unread {
                outln!("{} rows of {partitions} committed uploads not verified: {reason}", HumanCount(*rows));
            }
            match (mismatched, unverified) {
                (0, 0) => Ok(()),
                (0, unverified) => Err(format!("{unverified} objects could not be verified").into()),
                (mismatched, 0) => Err(format!("{mismatched} objects don't match their tasks").into()),
                (mismatched, unverified) => Err(format!(
                    "{mismatched} objects don't match their tasks, and {unverified} could not be verified"
                )
                .into()),
            }
        })
    }
}

/// Returns the mismatch between an object and its task, if any.
fn mismatch(object: &Value) -> Option<String> {
    let found = &object["found"];
    if let Some(error) = found["error"].as_str() {
        return Some(error.to_owned());
    }
    if found.is_null() {
        return Some("the object is missing".into());
    }
    if found["sha256"] == object["sha256"] {
        return None;
    }
    Some(format!(
        "found {} bytes with sha256 {}, expected {} bytes with sha256 {}",
        found["bytes"], found["sha256"], object["storedBytes"], object["sha256"]
    ))
}

/// Returns the mismatch between the heads in an object's metadata and its task, if both have them.
fn head_mismatch(object: &Value, task: &Value) -> Option<String> {
    ["headBefore", "head"].into_iter().find_map(|name| {
        let (found, expected) = (object["found"][name].as_str()?, task[name].as_str()?);
        (found != expected).then(|| format!("its metadata has the {name} {found}, its task {expected}"))
    })
}
