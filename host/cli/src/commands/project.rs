use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::connect::{self, Connect};
use super::{Failure, deletion};
use crate::print::outln;
use crate::table;
use logship_server::keys::Access;

/// Lists, deletes and restores projects. `logship logstore create` creates them.
#[derive(Debug, Args)]
pub(super) struct ProjectCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the projects that the key may read or write.
    List {
        /// Lists the deleted projects that can be restored.
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a project with its logstores. It can be restored for a day.
    Delete {
        /// The project's name.
        name: String,
        /// Confirms the deletion of a project with logs: its name again.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Restores a project that was deleted within the last day, with its logstores.
    Restore {
        /// The project's name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
}

impl ProjectCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::List { deleted, connect } => list(&connect, deleted).await,
                Command::Delete { name, confirm, connect } => {
                    let client = connect.client_of(&name, Access::Admin)?;
                    deletion::delete(&client, "/", confirm).await?;
                    outln!("deleted project {name}; {}", deletion::hint("project", &name));
                    Ok(())
                }
                Command::Restore { name, connect } => {
                    let client = connect.client_of(&name, Access::Admin)?;
                    client.send_json(Method::POST, "/restore", &[], &json!({})).await?;
                    outln!("restored project {name}");
                    Ok(())
                }
            }
        })
    }
}

async fn list(connect: &Connect, deleted: bool) -> Result<(), Failure> {
    let client = connect.client_without_project(Access::Read)?;
    if deleted {
        let found: Value = client.get("/deleted", &[]).await?;
        outln!("{}", deletion::table(&found["projects"], "projectName", "project"));
        return Ok(());
    }
    let found: Value = client.get("/", &[]).await?;
    let text = |project: &Value, name: &str| project[name].as_str().unwrap_or_default().to_owned();
    let row = |project: &Value| vec![text(project, "projectName"), text(project, "description")];
    let rows = found["projects"].as_array().into_iter().flatten().map(row).collect();
    outln!("{}", table::render(&["project", "description"], rows));
    Ok(())
}
