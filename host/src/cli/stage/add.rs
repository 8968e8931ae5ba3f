use clap::Args;
use serde_json::Value;

use super::super::Failure;
use super::super::connect::{self, Connect};
use super::origin::{self, Component, RegistryOptions};
use crate::client::Client;
use crate::service::keys::Access;

/// Adds a component to a running service, as a version of a name that rules can use.
///
/// It is checked first. A new name stands for it at once; a name that is there stays what it is until
/// `logship stage swap`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AddCommand {
    /// The component file, or its place in an OCI registry: REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST.
    #[arg(value_name = "FILE|REFERENCE")]
    origin: String,
    /// The SHA-256 that the component has to have, in hexadecimal.
    #[arg(long, value_name = "DIGEST", value_parser = origin::sha256)]
    sha256: Option<String>,
    /// The name that it is a version of; by default what the stage calls itself.
    #[arg(long)]
    name: Option<String>,
    /// Let the name stand for it at once.
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
            let client = self.connect.client_for_all(Access::Admin)?;
            let component = origin::fetch(&self.origin, &self.registry).await?;
            if let Some(expected) = &self.sha256 {
                component.check(expected)?;
            }
            let reply = add(&client, component, self.name.as_deref(), self.swap).await?;
            let (name, version) = (super::text(&reply["name"]), super::text(&reply["added"]));
            println!("added {name} {version}");
            match super::text(&reply["version"]) {
                current if current == version => println!("{name} stands for it; {}", super::rules(&reply)),
                current => {
                    println!("{name} stands for {current}; logship stage swap {name} {version} changes that")
                }
            }
            Ok(())
        })
    }
}

/// Adds a component.
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
