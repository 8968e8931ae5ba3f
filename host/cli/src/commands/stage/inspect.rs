use clap::Args;
use serde_json::{Value, json};

use super::super::{EngineOptions, Failure, WasiOption};
use super::Report;
use crate::print::outln;
use logship_registry::Registry;
use logship_runtime::stage::{Stage, Transport};

/// Checks a stage and shows its kind, name, version, digest, imports and configuration schema.
#[derive(Debug, Args)]
pub(in crate::commands) struct InspectCommand {
    /// A component file (a path with `/` or ending in `.wasm`), or the name of a built-in stage.
    stage: String,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
    #[command(flatten)]
    wasi: WasiOption,
}

impl InspectCommand {
    pub(super) fn run(&self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?).with_wasi_allowlist(self.wasi.allowlist());
        inspect(&registry.stage(None, &self.stage)?, self.report)
    }
}

fn inspect(stage: &Stage, report: Report) -> Result<(), Failure> {
    let schema: Value = serde_json::from_str(stage.config_schema())?;
    let identity = stage.identity();
    if report == Report::Json {
        let mut facts = json!({
            "kind": stage.kind().to_string(),
            "name": identity.name(),
            "version": identity.version(),
            "sha256": identity.digest(),
            "bytes": identity.size(),
            "imports": identity.imports(),
            "config_schema": schema,
        });
        for (name, value) in kind_properties(stage) {
            facts[name.replace(' ', "_")] = value.into();
        }
        outln!("{facts:#}");
        return Ok(());
    }
    let imports = identity.imports();
    let mut facts = vec![
        ("kind", stage.kind().to_string()),
        ("name", identity.name().to_owned()),
        ("version", identity.version().to_owned()),
        ("sha256", identity.digest().to_owned()),
        ("size", super::kib(identity.size())),
        ("imports", if imports.is_empty() { "none".to_owned() } else { imports.join(", ") }),
    ];
    facts.extend(kind_properties(stage));
    for (name, value) in facts {
        outln!("{name:<13}{value}");
    }
    outln!("config        (JSON Schema)\n{schema:#}");
    Ok(())
}

/// Returns the properties of a stage's kind.
fn kind_properties(stage: &Stage) -> Vec<(&'static str, String)> {
    match stage {
        Stage::Encoder(stage) => {
            let about = stage.description();
            let inner: Vec<_> = about.compressions.iter().map(|inner| inner.name.as_str()).collect();
            vec![
                ("format", about.format.clone()),
                ("suffix", about.suffix.clone()),
                ("media type", about.media_type.clone()),
                ("compresses", if inner.is_empty() { "not itself".into() } else { inner.join(", ") }),
            ]
        }
        Stage::Compressor(stage) => {
            let about = stage.description();
            vec![("compression", about.compression.clone()), ("suffix", about.suffix.clone())]
        }
        Stage::Renderer(_) | Stage::Transformer(_) => vec![],
        Stage::Formatter(stage) => {
            let transport = match stage.description().transport {
                Transport::Hec => "hec",
                Transport::Syslog => "syslog",
            };
            vec![("transport", transport.to_owned())]
        }
        Stage::RowEncoder(stage) => vec![("protocols", stage.description().protocols.join(", "))],
        Stage::Pipeline(stage) => {
            let compression = stage.compression().unwrap_or("not by a stage of its own");
            vec![("format", stage.format().to_owned()), ("compression", compression.to_owned())]
        }
    }
}
