use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::super::{EngineOptions, Failure, output};
use super::kind::StageKind;
use crate::print::outln;
use logship_runtime::componentize::componentize;
use logship_runtime::stage::Stage;
use logship_runtime::wasi::WasiAllowlist;

/// Converts a core module to a component.
///
/// For compilers that produce modules for WASI preview 1, such as Go's. The module must have the exports of
/// wit-bindgen bindings to wit/. The component embeds an empty WASI, so it imports nothing: no files, no
/// environment, frozen clocks, the same random numbers each time.
#[derive(Debug, Args)]
pub(in crate::commands) struct ComponentizeCommand {
    /// The core module.
    module: PathBuf,
    /// The kind of the stage.
    #[arg(long, value_enum)]
    kind: StageKind,
    /// Writes the component to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ComponentizeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let module = self.module.display();
        let bytes = fs::read(&self.module).map_err(|error| format!("{module}: {error}"))?;
        let component =
            componentize(&bytes, self.kind.into()).map_err(|error| format!("{module}: {error}"))?;
        // Checks the component like any stage, before writing it.
        let origin = self.output.display().to_string();
        let stage = Stage::load(&engine.engine()?, &origin, &component, &WasiAllowlist::None)?;
        output::write(&self.output, &component).map_err(|error| format!("{origin}: {error}"))?;
        let identity = stage.identity();
        outln!(
            "{origin}: {}, {} {}, {}",
            super::kib(component.len()),
            identity.name(),
            identity.version(),
            stage.kind()
        );
        Ok(())
    }
}
