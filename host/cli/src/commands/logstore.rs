use crate::print::outln;
use clap::{Args, Subcommand};
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::connect::{self, Connect};
use super::stage::Report;
use super::{Failure, deletion};
use crate::table;
use logship_client::{Client, ClientError};
use logship_server::keys::Access;

/// Creates, shows and deletes logstores.
#[derive(Debug, Args)]
pub(super) struct LogstoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a logstore, and its project if missing.
    Create {
        /// The logstore's name.
        name: String,
        /// Number of shards, which are written and consumed in parallel.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
        shards: u32,
        /// Keeps logs for this many days; 3650 means forever.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
        ttl: u32,
        #[command(flatten)]
        connect: Connect,
    },
    /// Lists the project's logstores.
    List {
        /// Lists the deleted logstores that can be restored.
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows a logstore and its shards.
    Show {
        /// The logstore's name.
        name: String,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Places a legal hold: the logs do not expire, and the logstore can't be deleted.
    Hold {
        /// The logstore's name.
        name: String,
        /// Who needs the logs, and why.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Releases a legal hold. Needs a key with admin access to all projects.
    Release {
        /// The logstore's name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a logstore and its logs. It can be restored for a day.
    Delete {
        /// The logstore's name.
        name: String,
        /// Confirms the deletion of a logstore with logs: its name again.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        /// The old form of --confirm NAME.
        #[arg(long, hide = true)]
        force: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Restores a logstore that was deleted within the last day, with its logs, rules and consumer groups.
    Restore {
        /// The logstore's name.
        name: String,
        /// Restores it under this name.
        #[arg(long = "as", value_name = "NAME")]
        new_name: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
}

impl LogstoreCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::Create { name, shards, ttl, connect } => {
                    let client = connect.client(Access::Admin)?;
                    ensure_project(&client, &connect.project).await?;
                    let body = json!({ "logstoreName": name, "ttl": ttl, "shardCount": shards });
                    client.send_json(Method::POST, "/logstores", &[], &body).await?;
                    outln!("created {}/{name}: {shards} shards, logs kept for {ttl} days", connect.project);
                    Ok(())
                }
                Command::Hold { name, reason, connect } => {
                    let client = connect.client(Access::Admin)?;
                    let path = format!("/logstores/{name}/hold");
                    client.send_json(Method::PUT, &path, &[], &json!({ "reason": reason })).await?;
                    outln!("{}/{name} is under a legal hold", connect.project);
                    Ok(())
                }
                Command::Release { name, connect } => {
                    let client = connect.client_for_all_projects(Access::Admin)?;
                    let path = format!("/logstores/{name}/hold");
                    client.send_json(Method::DELETE, &path, &[], &Value::Null).await?;
                    outln!("{}/{name} is under no legal hold", connect.project);
                    Ok(())
                }
                Command::List { deleted, connect } => {
                    let client = connect.client(Access::Read)?;
                    if deleted { list_deleted(&client).await } else { list(&client).await }
                }
                Command::Show { name, report, connect } => {
                    show(&connect.client(Access::Read)?, &name, report).await
                }
                Command::Delete { name, confirm, force, connect } => {
                    let client = connect.client(Access::Admin)?;
                    let confirm = confirm.or_else(|| force.then(|| name.clone()));
                    deletion::delete(&client, &format!("/logstores/{name}"), confirm).await?;
                    outln!("deleted {}/{name}; {}", connect.project, deletion::hint("logstore", &name));
                    Ok(())
                }
                Command::Restore { name, new_name, connect } => {
                    let client = connect.client(Access::Admin)?;
                    let query: Vec<_> = new_name.iter().map(|name| ("as", name.as_str())).collect();
                    let path = format!("/logstores/{name}/restore");
                    client.send_json(Method::POST, &path, &query, &json!({})).await?;
                    outln!("restored {}/{}", connect.project, new_name.unwrap_or(name));
                    Ok(())
                }
            }
        })
    }
}

async fn ensure_project(client: &Client, name: &str) -> Result<(), ClientError> {
    let body = json!({ "projectName": name, "description": "" });
    match client.send_json(Method::POST, "/", &[], &body).await {
        Err(ClientError::Rejected(error)) if error.code == ErrorCode::ProjectAlreadyExist => Ok(()),
        result => result.map(drop),
    }
}

/// A shard and its first and next cursors.
struct Shard {
    info: Value,
    begin: u64,
    end: u64,
}

impl Shard {
    /// Returns the number of log groups. Log Service doesn't tell it; its cursors are consecutive.
    fn groups(&self) -> u64 {
        self.info["logGroups"].as_u64().unwrap_or_else(|| self.end.saturating_sub(self.begin))
    }
}

async fn shards(client: &Client, logstore: &str) -> Result<Vec<Shard>, ClientError> {
    let all: Vec<Value> = client.get(&format!("/logstores/{logstore}/shards"), &[]).await?;
    let mut shards = vec![];
    for info in all {
        let number = info["shardID"].as_u64().unwrap_or_default() as u32;
        let begin = client.cursor(logstore, number, "begin").await?.0;
        let end = client.cursor(logstore, number, "end").await?.0;
        shards.push(Shard { info, begin, end });
    }
    Ok(shards)
}

async fn list(client: &Client) -> Result<(), Failure> {
    let found: Value = client.get("/logstores", &[]).await?;
    let mut rows = vec![];
    for name in found["logstores"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let info: Value = client.get(&format!("/logstores/{name}"), &[]).await?;
        rows.push(vec![name.to_owned(), info["shardCount"].to_string(), info["ttl"].to_string()]);
    }
    outln!("{}", table::render(&["logstore", "shards", "days"], rows));
    Ok(())
}

async fn list_deleted(client: &Client) -> Result<(), Failure> {
    let found: Value = client.get("/deleted", &[]).await?;
    outln!("{}", deletion::table(&found["logstores"], "logstoreName", "logstore"));
    Ok(())
}

async fn show(client: &Client, name: &str, report: Report) -> Result<(), Failure> {
    let info: Value = client.get(&format!("/logstores/{name}"), &[]).await?;
    let shards = shards(client, name).await?;
    if report == Report::Json {
        let all: Vec<_> = shards
            .into_iter()
            .map(|mut shard| {
                shard.info["beginCursor"] = shard.begin.into();
                shard.info["endCursor"] = shard.end.into();
                shard.info
            })
            .collect();
        let mut info = info;
        info["shards"] = all.into();
        outln!("{info:#}");
        return Ok(());
    }
    outln!("{name}: logs are kept for {} days", info["ttl"]);
    let row = |shard: &Shard| {
        let text = |name: &str| shard.info[name].as_str().unwrap_or_default().to_owned();
        vec![
            shard.info["shardID"].to_string(),
            text("status"),
            text("inclusiveBeginKey"),
            shard.groups().to_string(),
            shard.end.to_string(),
        ]
    };
    let header = ["shard", "status", "keys from", "log groups", "next cursor"];
    outln!("{}", table::render(&header, shards.iter().map(row).collect()));
    Ok(())
}
