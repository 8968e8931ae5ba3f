use clap::Args;
use serde_json::Value;

use super::super::connect::{self, Connect};
use super::super::{EngineOptions, Failure};
use super::{Report, kib};
use crate::print::{errln, outln};
use crate::table;
use logship_registry::Registry;
use logship_server::keys::Access;

/// Lists the stage catalog of a running service: names and their current versions.
#[derive(Debug, Args)]
pub(in crate::commands) struct ListCommand {
    /// Lists the built-in stages, without asking a service.
    #[arg(long)]
    built_in: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
    #[command(flatten)]
    connect: Connect,
}

impl ListCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        if self.built_in {
            return built_in(&Registry::new(engine.engine()?));
        }
        connect::run(async {
            let listed: Value =
                self.connect.client_for_all_projects(Access::Read)?.get("/stages", &[]).await?;
            match self.report {
                Report::Json => outln!("{listed:#}"),
                Report::Text => list(&listed),
            }
            Ok(())
        })
    }
}

fn built_in(registry: &Registry) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for name in Registry::built_in() {
        let stage = registry.stage(None, name)?;
        let identity = stage.identity();
        rows.push(vec![
            name.to_owned(),
            stage.kind().to_string(),
            identity.version().to_owned(),
            kib(identity.size()),
            identity.digest()[..12].to_owned(),
        ]);
    }
    outln!("{}", table::render(&["stage", "kind", "version", "size", "sha256"], rows));
    Ok(())
}

fn list(listed: &Value) {
    let array = |name: &str| listed[name].as_array().into_iter().flatten();
    let rows = array("stages").map(row).collect();
    outln!("{}", table::render(&["stage", "kind", "version", "sha256", "from", "versions", "rules"], rows));
    for broken in array("broken") {
        errln!(
            "warning: {} was not added: {}",
            super::text(&broken["file"]),
            super::text(&broken["problem"])
        );
    }
    for stage in array("stages").filter(|stage| stage["problem"].is_string()) {
        errln!("warning: {}: {}", super::text(&stage["name"]), super::text(&stage["problem"]));
    }
}

fn row(stage: &Value) -> Vec<String> {
    let from = match (stage["builtIn"].as_bool(), stage["pinned"].as_bool()) {
        (Some(true), Some(true)) => "built in, pinned",
        (Some(true), _) => "built in",
        (_, Some(true)) => "added, pinned",
        _ => "added",
    };
    vec![
        super::text(&stage["name"]),
        super::text(&stage["kind"]),
        super::text(&stage["version"]),
        super::short(&stage["digest"]),
        from.to_owned(),
        stage["versions"].to_string(),
        stage["rules"].as_array().map_or(0, Vec::len).to_string(),
    ]
}
