use clap::Args;
use serde_json::Value;

use super::super::Failure;
use super::super::connect::{self, Connect};
use super::origin::{self, Component, RegistryOptions};
use crate::print::outln;
use logship_client::Client;
use logship_server::keys::Access;

/// Adds a component to the stage catalog of a running service, as a version of a name.
///
/// The service checks the component first. A new name points to the component at once. An existing name keeps its
/// version until `logship stage swap`.
#[derive(Debug, Args)]
pub(in crate::commands) struct AddCommand {
    /// The component: a file, or an OCI reference REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST.
    #[arg(value_name = "FILE|REFERENCE")]
    origin: String,
    /// Requires this SHA-256 digest, in hexadecimal.
    #[arg(long, value_name = "DIGEST", value_parser = origin::sha256)]
    sha256: Option<String>,
    /// Adds the version to this name [default: the stage's own name]
    #[arg(long)]
    name: Option<String>,
    /// Points the name to the new version at once.
    #[arg(long)]
    swap: bool,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    connect: Connect,
}

impl AddCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            let client = self.connect.client_for_all_projects(Access::Admin)?;
            let component = origin::fetch(&self.origin, &self.registry).await?;
            if let Some(expected) = &self.sha256 {
                component.check(expected)?;
            }
            let reply = add(&client, component, self.name.as_deref(), self.swap).await?;
            let (name, version) = (super::text(&reply["name"]), super::text(&reply["added"]));
            outln!("added {name} {version}");
            match super::text(&reply["version"]) {
                current if current == version => {
                    outln!("{name} points to it; {}", super::rule_count(&reply))
                }
                current => {
                    outln!(
                        "{name} points to {current}; use logship stage swap {name} {version} to change that"
                    )
                }
            }
            Ok(())
        })
    }
}

/// Adds a component to the catalog.
pub(super) async fn add(
    client: &Client,
    component: Component,
    name: Option<&str>,
    swap: bool,
) -> Result<Value, Failure> {
    let mut query =
        vec![("source", component.source.as_str()), ("swap", if swap { "true" } else { "false" })];
    query.extend(name.map(|name| ("name", name)));
    Ok(client.send_bytes("/stages", &query, "application/wasm", component.bytes).await?)
}
