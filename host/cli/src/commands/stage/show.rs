use chrono::{DateTime, SecondsFormat};
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use super::super::Failure;
use super::super::connect::{self, Connect};
use super::{Report, kib, short, text};
use crate::print::outln;
use crate::table;
use logship_server::keys::Access;

/// Shows a name with its versions, the rules that use it, and its history.
#[derive(Debug, Args)]
pub(in crate::commands) struct ShowCommand {
    /// Name of the stage.
    name: String,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
    #[command(flatten)]
    connect: Connect,
}

impl ShowCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let path = format!("/stages/{}", self.name);
            let shown: Value = self.connect.client_for_all_projects(Access::Read)?.get(&path, &[]).await?;
            match self.report {
                Report::Json => outln!("{shown:#}"),
                Report::Text => show(&shown),
            }
            Ok(())
        })
    }
}

fn show(shown: &Value) {
    let pinned = if shown["pinned"] == true { ", pinned" } else { "" };
    let from = if shown["builtIn"] == true { ", built in" } else { "" };
    outln!("{:<9}{}", "stage", text(&shown["name"]));
    outln!("{:<9}{}", "kind", text(&shown["kind"]));
    outln!("{:<9}{}{from}{pinned}", "version", text(&shown["version"]));
    outln!("{:<9}{}", "sha256", text(&shown["digest"]));
    if shown["use"]["calls"].as_u64().is_some_and(|calls| calls > 0) {
        outln!("{:<9}{}", "calls", calls(&shown["use"]));
    }
    if let Some(problem) = shown["problem"].as_str() {
        outln!("{:<9}{problem}", "problem");
    }
    let array = |name: &str| shown[name].as_array().into_iter().flatten();
    let table_of = |header: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            outln!("\n{}", table::render(header, rows));
        }
    };
    let user = |rule: &Value| {
        let logstore = format!("{}/{}", text(&rule["project"]), text(&rule["logstore"]));
        vec![text(&rule["shipperName"]), logstore, text(&rule["problem"])]
    };
    table_of(&["rule", "logstore", "problem"], array("rules").map(user).collect());
    let version = |version: &Value| {
        let is_current = version["digest"] == shown["digest"];
        vec![
            format!("{}{}", text(&version["version"]), if is_current { " *" } else { "" }),
            short(&version["digest"]),
            kib(version["bytes"].as_u64().unwrap_or(0) as usize),
            time(&version["added"]),
            text(&version["by"]),
            text(&version["source"]),
        ]
    };
    table_of(&["version", "sha256", "size", "added", "by", "from"], array("all").map(version).collect());
    let event = |event: &Value| {
        vec![time(&event["at"]), text(&event["action"]), text(&event["version"]), text(&event["by"])]
    };
    table_of(&["when", "what", "version", "by"], array("events").map(event).collect());
}

/// Summarizes the stage's calls since the service started.
fn calls(usage: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut line = format!(
        "{} in {:.2} s, up to {} of memory",
        HumanCount(number(&usage["calls"])),
        usage["seconds"].as_f64().unwrap_or(0.0),
        HumanBytes(number(&usage["memory"])),
    );
    let failures = usage["failures"].as_object().into_iter().flatten();
    let failures: Vec<String> = failures
        .filter(|(_, count)| number(count) > 0)
        .map(|(reason, count)| format!("{} {reason}", HumanCount(number(count))))
        .collect();
    if !failures.is_empty() {
        line += &format!("; {}", failures.join(", "));
    }
    line
}

fn time(seconds: &Value) -> String {
    let time = DateTime::from_timestamp_micros((seconds.as_f64().unwrap_or(0.0) * 1e6) as i64);
    time.map_or("-".into(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}
