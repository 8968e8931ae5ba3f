use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::Failure;
use super::super::connect::{self, Connect};
use super::origin::{self, RegistryOptions};
use super::{add, is_file, rule_count, text};
use crate::print::outln;
use logship_client::Client;
use logship_server::keys::Access;

/// Points a name to another version, from the next task on.
///
/// Existing tasks keep their component. The service rejects a component that does not fit one of the name's rules, and
/// changes nothing.
#[derive(Debug, Args)]
pub(in crate::commands) struct SwapCommand {
    /// The name: an added one, or that of a built-in stage.
    name: String,
    /// The new target: a version of the name, `built-in`, sha256:DIGEST, another name or NAME@VERSION. A component
    /// file or an OCI reference is added first.
    to: String,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    connect: Connect,
}

/// Points a name back at its previous version, and retries tasks that failed in the stage.
#[derive(Debug, Args)]
pub(in crate::commands) struct RollbackCommand {
    /// Name of the stage.
    name: String,
    #[command(flatten)]
    connect: Connect,
}

/// Pins a name to a version. The watched folder, `swap` and `rollback` can't change a pinned name.
#[derive(Debug, Args)]
pub(in crate::commands) struct PinCommand {
    /// Name of the stage.
    name: String,
    /// The version to pin [default: the current one]
    version: Option<String>,
    /// Unpins the name.
    #[arg(long, conflicts_with = "version")]
    off: bool,
    #[command(flatten)]
    connect: Connect,
}

impl SwapCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all_projects(Access::Admin)?;
            let reply = if is_file(&self.to) {
                let component = origin::fetch(&self.to, &self.registry).await?;
                add::add(&client, component, Some(&self.name), true).await?
            } else {
                change(&client, &self.name, "swap", Some(&self.to)).await?
            };
            print_change(&reply, "");
            Ok(())
        })
    }
}

impl RollbackCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all_projects(Access::Admin)?;
            print_change(&change(&client, &self.name, "rollback", None).await?, " again");
            Ok(())
        })
    }
}

impl PinCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all_projects(Access::Admin)?;
            let action = if self.off { "unpin" } else { "pin" };
            let reply = change(&client, &self.name, action, self.version.as_deref()).await?;
            let (name, version) = (text(&reply["name"]), text(&reply["version"]));
            match self.off {
                true => outln!("unpinned {name}: it points to {version} and can change"),
                false => outln!("pinned {name} to {version}"),
            }
            Ok(())
        })
    }
}

async fn change(client: &Client, name: &str, action: &str, to: Option<&str>) -> Result<Value, Failure> {
    let path = format!("/stages/{name}");
    Ok(client.send_json(Method::PUT, &path, &[("action", action)], &json!({ "to": to })).await?)
}

fn print_change(reply: &Value, again: &str) {
    let (name, version) = (text(&reply["name"]), text(&reply["version"]));
    outln!("{name} points to {version}{again}, from the next task on; {}", rule_count(reply));
}
