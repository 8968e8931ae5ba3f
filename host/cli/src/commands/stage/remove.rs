use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::super::Failure;
use super::super::connect::{self, Connect};
use crate::print::outln;
use logship_registry::VERSION_SEPARATOR;
use logship_server::keys::Access;

/// Removes a version of a name, or the name with all versions. Components stay while tasks need them.
#[derive(Debug, Args)]
pub(in crate::commands) struct RemoveCommand {
    /// NAME@VERSION, or NAME if no rule uses it. The name of a built-in stage then points to the built-in stage.
    name: String,
    #[command(flatten)]
    connect: Connect,
}

impl RemoveCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all_projects(Access::Admin)?;
            let (name, version) = self.name.split_once(VERSION_SEPARATOR).unwrap_or((&self.name, ""));
            let query = [("version", version)];
            let query = if version.is_empty() { &[][..] } else { &query[..] };
            client.send_json(Method::DELETE, &format!("/stages/{name}"), query, &Value::Null).await?;
            outln!("removed {}", self.name);
            Ok(())
        })
    }
}
