use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::super::Failure;
use super::super::connect::{self, Connect};
use crate::registry::VERSION;
use crate::service::keys::Access;

/// Removes a version of a name, or all of the name. Components stay as long as a task needs them.
#[derive(Debug, Args)]
pub(in crate::cli) struct RemoveCommand {
    /// NAME@VERSION; or NAME, which no rule may use then. The name of a built-in stage stands for that again.
    name: String,
    #[command(flatten)]
    connect: Connect,
}

impl RemoveCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all(Access::Admin)?;
            let (name, version) = self.name.split_once(VERSION).unwrap_or((&self.name, ""));
            let query = [("version", version)];
            let query = if version.is_empty() { &[][..] } else { &query[..] };
            client.send_json(Method::DELETE, &format!("/stages/{name}"), query, &Value::Null).await?;
            println!("removed {}", self.name);
            Ok(())
        })
    }
}
