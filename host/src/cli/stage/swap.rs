use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::Failure;
use super::super::connect::{self, Connect};
use super::origin::{self, RegistryOptions};
use super::{add, is_file, rules, text};
use crate::client::Client;
use crate::service::keys::Access;

/// Lets a name stand for another version, from the next task on.
///
/// Tasks that are there keep the component that they were made with. A component that a rule can't go on with is
/// refused before anything is changed.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwapCommand {
    /// The name: one of your own, or that of a built-in stage.
    name: String,
    /// A version of it, `built-in`, sha256:DIGEST, another name (or NAME@VERSION), or the file of a component or its
    /// place in an OCI registry, which is added first.
    to: String,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    connect: Connect,
}

/// Lets a name stand for what it stood for before. Tasks that failed in the stage are tried again with that.
#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackCommand {
    /// The name.
    name: String,
    #[command(flatten)]
    connect: Connect,
}

/// Lets a name stay what it is: a changed file in the watched folder, `swap` and `rollback` change nothing then.
#[derive(Debug, Args)]
pub(in crate::cli) struct PinCommand {
    /// The name.
    name: String,
    /// The version that it is to stand for; by default the one that it does.
    version: Option<String>,
    /// Let it be changed again.
    #[arg(long, conflicts_with = "version")]
    off: bool,
    #[command(flatten)]
    connect: Connect,
}

impl SwapCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all(Access::Admin)?;
            let reply = if is_file(&self.to) {
                let component = origin::fetch(&self.to, &self.registry).await?;
                add::add(&client, component, Some(&self.name), true).await?
            } else {
                change(&client, &self.name, "swap", Some(&self.to)).await?
            };
            tell(&reply, "");
            Ok(())
        })
    }
}

impl RollbackCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all(Access::Admin)?;
            tell(&change(&client, &self.name, "rollback", None).await?, " again");
            Ok(())
        })
    }
}

impl PinCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all(Access::Admin)?;
            let action = if self.off { "unpin" } else { "pin" };
            let reply = change(&client, &self.name, action, self.version.as_deref()).await?;
            let (name, version) = (text(&reply["name"]), text(&reply["version"]));
            match self.off {
                true => println!("{name} stands for {version}, and can be changed"),
                false => println!("{name} stands for {version}, and stays that"),
            }
            Ok(())
        })
    }
}

async fn change(client: &Client, name: &str, action: &str, to: Option<&str>) -> Result<Value, Failure> {
    let path = format!("/stages/{name}");
    Ok(client.send_json(Method::PUT, &path, &[("action", action)], &json!({ "to": to })).await?)
}

fn tell(reply: &Value, again: &str) {
    let (name, version) = (text(&reply["name"]), text(&reply["version"]));
    println!("{name} stands for {version}{again}, from the next task on; {}", rules(reply));
}
