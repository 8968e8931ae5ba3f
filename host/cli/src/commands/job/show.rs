//! Shows jobs and runs.

use chrono::DateTime;
use indicatif::{HumanBytes, HumanCount};
use logship_client::Client;
use serde_json::Value;

use super::follow::summary;
use super::path;
use crate::commands::Failure;
use crate::commands::stage::Report;
use crate::print::outln;
use crate::table;

/// The largest page of a list.
const PAGE: usize = 500;

/// Returns the first `limit` elements of a list, whose pages have them as `name`.
async fn elements(client: &Client, path: &str, name: &str, limit: usize) -> Result<Vec<Value>, Failure> {
    let mut all = vec![];
    while all.len() < limit {
        let (offset, size) = (all.len().to_string(), (limit - all.len()).min(PAGE).to_string());
        let mut page: Value = client.get(path, &[("offset", &offset), ("size", &size)]).await?;
        let found = page[name].as_array_mut().map(std::mem::take).unwrap_or_default();
        if found.is_empty() {
            break;
        }
        all.extend(found);
    }
    Ok(all)
}

pub(super) async fn list(client: &Client, report: Report) -> Result<(), Failure> {
    let jobs = elements(client, "/jobs", "jobs", usize::MAX).await?;
    if report == Report::Json {
        outln!("{:#}", Value::from(jobs));
        return Ok(());
    }
    if jobs.is_empty() {
        outln!("no jobs; `logship job create -f FILE` makes one");
        return Ok(());
    }
    let row = |job: &Value| {
        let last = &job["lastRun"];
        let last_run = match last.is_null() {
            true => "-".to_owned(),
            false => format!("{} {}", last["id"], text(&last["state"])),
        };
        let place = format!("{} {}", text(&job["table"]), text(&job["partition"])).trim().to_owned();
        vec![
            text(&job["name"]),
            text(&job["logstore"]),
            place,
            or_dash(&job["schedule"]),
            time(&job["nextRun"]),
            last_run,
        ]
    };
    let header = ["job", "logstore", "table", "schedule", "next run", "last run"];
    outln!("{}", table::render(&header, jobs.iter().map(row).collect()));
    Ok(())
}

pub(super) async fn job(client: &Client, name: &str, report: Report) -> Result<(), Failure> {
    let job: Value = client.get(&path(name)?, &[]).await?;
    if report == Report::Json {
        outln!("{job:#}");
        return Ok(());
    }
    let mode = if job["truncate"] == true { "replaces the partition" } else { "appends" };
    let shown = [
        ("job", text(&job["name"])),
        ("problem", text(&job["problem"])),
        ("source", text(&job["logstore"])),
        ("table", format!("{} of {}", text(&job["table"]), text(&job["datasource"]))),
        ("partition", text(&job["partition"])),
        ("rows", mode.to_owned()),
        ("schedule", or_dash(&job["schedule"])),
        ("time zone", text(&job["timeZone"])),
        ("next run", time(&job["nextRun"])),
        ("skipped runs", text(&job["skippedRuns"])),
        ("keeps logs", keeps(&job["unreadSince"])),
        ("changed", time(&job["lastModifyTime"])),
    ];
    for (name, value) in shown.iter().filter(|(_, value)| !value.is_empty()) {
        outln!("{name:<14}{value}");
    }
    outln!("\n{:#}", job["script"]);
    Ok(())
}

/// Describes the logs that a job has not read.
fn keeps(since: &Value) -> String {
    if since.is_null() {
        String::new()
    } else {
        format!("that arrived since {}, until they are read", time(since))
    }
}

pub(super) async fn runs(client: &Client, name: &str, limit: usize, report: Report) -> Result<(), Failure> {
    let runs = elements(client, &format!("{}/runs", path(name)?), "runs", limit).await?;
    if report == Report::Json {
        outln!("{:#}", Value::from(runs));
        return Ok(());
    }
    if runs.is_empty() {
        outln!("no runs; `logship job run {name}` makes one");
        return Ok(());
    }
    let row = |run: &Value| {
        let count = |name: &str| HumanCount(run[name].as_u64().unwrap_or(0)).to_string();
        let state = match run["nextAttempt"].is_null() {
            true => text(&run["state"]),
            false => format!("{}, again at {}", text(&run["state"]), time(&run["nextAttempt"])),
        };
        vec![
            run["id"].to_string(),
            text(&run["trigger"]),
            text(&run["beginDateTime"]),
            text(&run["endDateTime"]),
            text(&run["partition"]),
            state,
            count("rows"),
            count("dirtyRows"),
            HumanBytes(run["logBytes"].as_u64().unwrap_or(0)).to_string(),
            first_line(&text(&run["message"])),
        ]
    };
    let header = ["run", "trigger", "begin", "end", "partition", "state", "rows", "dirty", "logs", "message"];
    outln!("{}", table::render(&header, runs.iter().map(row).collect()));
    Ok(())
}

pub(super) async fn run(client: &Client, name: &str, id: i64, report: Report) -> Result<(), Failure> {
    let run: Value = client.get(&format!("{}/runs/{id}", path(name)?), &[]).await?;
    if report == Report::Json {
        outln!("{run:#}");
        return Ok(());
    }
    let window = format!("{} to {}", text(&run["beginDateTime"]), text(&run["endDateTime"]));
    let error = [text(&run["code"]), text(&run["message"])].join(" ").trim().to_owned();
    let shown = [
        ("run", format!("{id} of {name}")),
        ("state", text(&run["state"])),
        ("error", error),
        ("trigger", text(&run["trigger"])),
        ("scheduled", text(&run["scheduledTime"])),
        ("window", window),
        ("table", text(&run["table"])),
        ("partition", text(&run["partition"])),
        ("session", text(&run["session"])),
        ("progress", summary(&run)),
        ("dirty row", text(&run["firstDirtyRow"])),
        ("attempts", run["attempts"].to_string()),
        ("started", time(&run["started"])),
        ("finished", time(&run["finished"])),
        ("next attempt", time(&run["nextAttempt"])),
    ];
    for (name, value) in shown.iter().filter(|(_, value)| !value.is_empty()) {
        outln!("{name:<14}{value}");
    }
    let shard = |shard: &Value| {
        let count = |name: &str| HumanCount(shard[name].as_u64().unwrap_or(0)).to_string();
        let bytes = |name: &str| HumanBytes(shard[name].as_u64().unwrap_or(0)).to_string();
        let cursors = format!("{} to {}", shard["begin"], shard["end"]);
        vec![
            shard["shard"].to_string(),
            cursors,
            count("rows"),
            count("dirtyRows"),
            count("blocks"),
            format!("{} of {}", bytes("logBytes"), bytes("totalLogBytes")),
        ]
    };
    let shards: Vec<_> = run["shards"].as_array().into_iter().flatten().map(shard).collect();
    if !shards.is_empty() {
        outln!("\n{}", table::render(&["shard", "cursors", "rows", "dirty", "blocks", "logs"], shards));
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn or_dash(value: &Value) -> String {
    if value.is_null() { "-".into() } else { text(value) }
}

fn time(value: &Value) -> String {
    let time = value.as_f64().and_then(|seconds| DateTime::from_timestamp_micros((seconds * 1e6) as i64));
    time.map_or_else(|| "-".into(), |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn first_line(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let line: String = text.lines().next().unwrap_or_default().chars().take(MAX_CHARS).collect();
    if line.len() < text.len() { format!("{line} …") } else { line }
}
