use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{HumanBytes, HumanCount};
use reqwest::Method;
use serde_json::{Value, json};

use super::connect::{self, Connect};
use super::stage::Report;
use super::{EngineOptions, Failure, replay};
use crate::print::outln;
use crate::table;
use logship_client::Client;
use logship_server::keys::Access;

/// Lists, retries and replays shipping tasks.
#[derive(Debug, Args)]
pub(super) struct TaskCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists tasks, newest first.
    List {
        #[command(flatten)]
        filter: TaskFilter,
        /// Lists only tasks with this status.
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Limits the number of tasks.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows a task with its range, objects and stages.
    Show {
        /// The task's id.
        id: String,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Retries failed tasks at once.
    Retry {
        /// The ids of the tasks.
        #[arg(required_unless_present = "all_failed", conflicts_with = "all_failed")]
        ids: Vec<String>,
        /// Retries all failed tasks that match the filters below.
        #[arg(long)]
        all_failed: bool,
        #[command(flatten)]
        filter: TaskFilter,
        #[command(flatten)]
        connect: Connect,
    },
    /// Recreates a task's objects on this machine, from the service's logs and stages.
    Replay {
        /// The task's id.
        id: String,
        /// Writes the objects to this directory.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        #[command(flatten)]
        connect: Connect,
    },
}

/// Filters of tasks.
#[derive(Debug, Args)]
pub(super) struct TaskFilter {
    /// Selects only tasks of this logstore.
    #[arg(long)]
    logstore: Option<String>,
    /// Selects only tasks of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Selects only tasks of this shard.
    #[arg(long, value_name = "N")]
    shard: Option<u32>,
    /// Selects only tasks of the last period, such as 30m, 12h or 2d.
    #[arg(long, value_name = "TIME", value_parser = period)]
    since: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Running,
    Success,
    Failed,
}

fn period(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a period: use a number with s, m, h or d, such as 30m, 12h or 2d");
    let mut number = text.chars();
    let seconds = match number.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number = number.as_str();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

impl TaskFilter {
    /// Returns the query parameters of a request.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = self.since.map(|since| now.saturating_sub(since).as_secs().to_string());
        let all = [
            ("logstore", self.logstore.clone()),
            ("shipper", self.rule.clone()),
            ("shard", self.shard.map(|shard| shard.to_string())),
            ("from", since),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Returns up to `limit` tasks that match a query, and the last page of the reply with the statistics.
pub(super) async fn fetch(
    client: &Client,
    query: &[(&'static str, String)],
    limit: usize,
) -> Result<(Vec<Value>, Value), Failure> {
    let (mut tasks, mut seen, mut fetched) = (vec![], HashSet::new(), 0);
    loop {
        let (offset, size) = (fetched.to_string(), (limit - tasks.len()).min(500).to_string());
        let mut all: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.extend([("offset", offset.as_str()), ("size", size.as_str())]);
        let mut page: Value = client.get("/tasks", &all).await?;
        let found = page["tasks"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let is_last = found.is_empty();
        fetched += found.len();
        // Skips duplicates: a task created between two requests shifts the last task of a page to the next page.
        tasks.extend(found.into_iter().filter(|task| seen.insert(task["id"].to_string())));
        if is_last || tasks.len() >= limit {
            return Ok((tasks, page));
        }
    }
}

impl TaskCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::List { filter, status, limit, report, connect } => {
                    let mut query = filter.query();
                    let status = status.map(|status| match status {
                        Status::Running => "running",
                        Status::Success => "success",
                        Status::Failed => "fail",
                    });
                    query.extend(status.map(|status| ("status", status.to_owned())));
                    let (tasks, page) = fetch(&connect.client(Access::Read)?, &query, limit.max(1)).await?;
                    match report {
                        Report::Json => outln!("{:#}", Value::from(tasks)),
                        Report::Text => list(&tasks, &page),
                    }
                    Ok(())
                }
                Command::Show { id, report, connect } => {
                    let task: Value = connect.client(Access::Read)?.get(&format!("/tasks/{id}"), &[]).await?;
                    match report {
                        Report::Json => outln!("{task:#}"),
                        Report::Text => show(&task),
                    }
                    Ok(())
                }
                Command::Retry { ids, all_failed, filter, connect } => {
                    let client = connect.client(Access::Admin)?;
                    let query = filter.query();
                    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    let body = if all_failed { json!({}) } else { json!({ "ids": ids }) };
                    let reply = client.send_json(Method::PUT, "/tasks", &query, &body).await?;
                    let count = reply["count"].as_u64().unwrap_or(0);
                    outln!("retrying {count} {} now", if count == 1 { "task" } else { "tasks" });
                    if !all_failed && (count as usize) < ids.len() {
                        return Err(
                            "can't retry the other tasks: they have not failed, or their rule was deleted"
                                .into(),
                        );
                    }
                    Ok(())
                }
                Command::Replay { id, to, connect } => {
                    replay::replay(&connect.client(Access::Read)?, engine.engine()?, &id, &to).await
                }
            }
        })
    }
}

fn list(tasks: &[Value], page: &Value) {
    if tasks.is_empty() {
        outln!("no tasks");
        return;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = tasks
        .iter()
        .map(|task| {
            let number = |name: &str| task[name].as_u64();
            vec![
                text(&task["id"]),
                text(&task["shipper"]),
                task["shard"].to_string(),
                text(&task["taskStatus"]),
                number("rows").map_or("-".into(), |rows| HumanCount(rows).to_string()),
                number("storedBytes").map_or("-".into(), |bytes| HumanBytes(bytes).to_string()),
                HumanCount(task["lostValues"].as_u64().unwrap_or(0)).to_string(),
                task["attempts"].to_string(),
                match task["taskCode"].as_str().unwrap_or_default() {
                    "" if is_empty(task) => NO_OBJECT.to_owned(),
                    "" => objects(task),
                    code => format!("{code}: {}", first_line(&text(&task["taskMessage"]))),
                },
            ]
        })
        .collect();
    let header =
        ["task", "rule", "shard", "status", "rows", "stored", "lost values", "attempts", "object or error"];
    outln!("{}", table::render(&header, rows));
    let count = |name: &str| page["statistics"][name].as_u64().unwrap_or(0);
    outln!("\n{} running, {} succeeded, {} failed.", count("running"), count("success"), count("fail"));
}

/// The object column of a task without objects.
const NO_OBJECT: &str = "none: all logs were filtered out";

/// Returns the key of a task's first object, and the number of further objects.
fn objects(task: &Value) -> String {
    match (task["object"].as_str().unwrap_or_default(), task["objects"].as_array().map_or(0, Vec::len)) {
        // The key is unknown until the logs are read.
        ("", _) => "-".to_owned(),
        (key, 0 | 1) => key.to_owned(),
        (key, count) => format!("{key} and {} more", count - 1),
    }
}

/// Returns true if a task has several objects.
fn has_several_objects(task: &Value) -> bool {
    task["objects"].as_array().is_some_and(|objects| objects.len() > 1)
}

/// Returns true if the rule filtered out all logs of a task.
fn is_empty(task: &Value) -> bool {
    task["sha256"] == "" && task["rows"] == 0
}

fn first_line(text: &str) -> String {
    const MAX_CHARS: usize = 100;
    let line: String = text.lines().next().unwrap_or_default().chars().take(MAX_CHARS).collect();
    if line.len() < text.len() { format!("{line} …") } else { line }
}

fn show(task: &Value) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let time = |value: &Value| {
        let time = value.as_f64().and_then(|seconds| DateTime::from_timestamp_micros((seconds * 1e6) as i64));
        time.map_or("-".to_owned(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    };
    let list =
        |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let shown = [
        ("task", text(&task["id"])),
        ("status", text(&task["taskStatus"])),
        ("error", [text(&task["taskCode"]), text(&task["taskMessage"])].join(" ").trim().to_owned()),
        ("rule", text(&task["shipper"])),
        ("source", format!("{}/{} shard {}", text(&task["project"]), text(&task["logstore"]), task["shard"])),
        ("cursors", format!("{} to {}", text(&task["begin"]), text(&task["end"]))),
        ("object", if is_empty(task) { NO_OBJECT.to_owned() } else { objects(task) }),
        ("rows", text(&task["rows"])),
        ("raw bytes", text(&task["rawBytes"])),
        ("stored bytes", text(&task["storedBytes"])),
        // The table below has the digests of several objects.
        ("sha256", if has_several_objects(task) { String::new() } else { text(&task["sha256"]) }),
        ("lost values", task["lostValues"].as_u64().unwrap_or(0).to_string()),
        ("stages", list(&task["plan"]["stages"])),
        ("created", time(&task["taskCreateTime"])),
        ("attempts", text(&task["attempts"])),
        ("finished", time(&task["finished"])),
        ("next attempt", time(&task["nextTry"])),
    ];
    for (name, value) in shown.iter().filter(|(_, value)| !value.is_empty()) {
        outln!("{name:<14}{value}");
    }
    let lost = task["lostByColumn"].as_object().into_iter().flatten();
    let lost: Vec<_> = lost
        .map(|(column, lost)| {
            let first = format!("{} {}", lost["example"], text(&lost["reason"]));
            vec![column.clone(), text(&lost["count"]), first]
        })
        .collect();
    if !lost.is_empty() {
        outln!("\n{}", table::render(&["column", "lost values", "the first one"], lost));
    }
    if has_several_objects(task) {
        let columns = ["object", "rows", "rawBytes", "storedBytes", "sha256"];
        let objects = task["objects"].as_array().into_iter().flatten();
        let rows = objects.map(|object| columns.map(|name| text(&object[name])).to_vec()).collect();
        outln!("\n{}", table::render(&["object", "rows", "raw bytes", "stored bytes", "sha256"], rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_further_objects() {
        assert_eq!(objects(&json!({ "object": "a", "objects": [{}] })), "a");
        assert_eq!(objects(&json!({ "object": "a", "objects": [{}, {}, {}] })), "a and 2 more");
        assert_eq!(objects(&json!({ "object": "", "objects": [] })), "-");
    }

    #[test]
    fn parses_periods() {
        assert_eq!(period("2d").unwrap(), Duration::from_secs(172_800));
        assert_eq!(period("90s").unwrap(), Duration::from_secs(90));
        for wrong in ["", "d", "2", "2w", "-1h", "ä", "99999999999999999999d"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }
}
