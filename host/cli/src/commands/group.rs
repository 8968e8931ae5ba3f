use clap::{Args, Subcommand};
use indicatif::HumanCount;
use reqwest::Method;
use serde_json::Value;

use super::Failure;
use super::connect::{self, Connect};
use super::stage::Report;
use crate::print::outln;
use crate::table;
use logship_server::keys::Access;

/// Shows and deletes consumer groups.
#[derive(Debug, Args)]
pub(super) struct GroupCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the consumer groups of a logstore.
    List {
        /// The logstore.
        logstore: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows each shard's owner, checkpoint and lag in a consumer group, and each consumer's throughput.
    Show {
        /// The logstore.
        logstore: String,
        /// The consumer group.
        group: String,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a consumer group and its checkpoints.
    Delete {
        /// The logstore.
        logstore: String,
        /// The consumer group.
        group: String,
        #[command(flatten)]
        connect: Connect,
    },
}

impl GroupCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::List { logstore, connect } => {
                    let client = connect.client(Access::Read)?;
                    let groups: Vec<Value> =
                        client.get(&format!("/logstores/{logstore}/consumergroups"), &[]).await?;
                    let row = |group: &Value| {
                        let ordered = if group["order"] == true { "yes" } else { "no" };
                        vec![text(&group["name"]), text(&group["timeout"]), ordered.into()]
                    };
                    outln!(
                        "{}",
                        table::render(&["group", "timeout s", "in order"], groups.iter().map(row).collect())
                    );
                }
                Command::Show { logstore, group, report, connect } => {
                    let client = connect.client(Access::Read)?;
                    let path = format!("/logstores/{logstore}/consumergroups/{group}");
                    let status: Value = client.get(&path, &[("type", "status")]).await?;
                    print(&status, report);
                }
                Command::Delete { logstore, group, connect } => {
                    let client = connect.client(Access::Read)?;
                    let path = format!("/logstores/{logstore}/consumergroups/{group}");
                    client.send_json(Method::DELETE, &path, &[], &Value::Null).await?;
                    outln!("deleted consumer group {group}");
                }
            }
            Ok(())
        })
    }
}

fn print(status: &Value, report: Report) {
    if report == Report::Json {
        outln!("{status:#}");
        return;
    }
    let shards = status["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |shard: &Value| {
        vec![
            text(&shard["shard"]),
            text(&shard["owner"]),
            text(&shard["groupsBehind"]),
            text(&shard["lagSeconds"]),
            text(&shard["checkpoint"]),
        ]
    };
    let header = ["shard", "owner", "groups behind", "lag s", "checkpoint"];
    outln!("{}", table::render(&header, shards.iter().map(row).collect()));
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !members.is_empty() {
        outln!("\n{}", members_table(members, shards));
    }
}

/// Renders the members with their throughput. Consumers other than logship report none.
fn members_table(members: &[Value], shards: &[Value]) -> String {
    let row = |member: &Value| {
        let owned = shards.iter().filter(|shard| shard["owner"] == member["consumer"]).count();
        let speed = member["bytesPerSecond"].as_f64();
        let count =
            |name: &str| member[name].as_u64().map_or("-".into(), |count| HumanCount(count).to_string());
        vec![
            text(&member["consumer"]),
            owned.to_string(),
            speed.map_or("-".into(), |speed| format!("{:.2}", speed / 1e6)),
            member["eventsPerSecond"]
                .as_f64()
                .map_or("-".into(), |speed| HumanCount(speed as u64).to_string()),
            count("events"),
            count("deadLetters"),
            count("retries"),
        ]
    };
    let header = ["consumer", "shards", "MB/s", "events/s", "events", "dead letters", "retries"];
    table::render(&header, members.iter().map(row).collect())
}

/// Returns text without quotes, other values as JSON, and a dash for null or empty text.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
