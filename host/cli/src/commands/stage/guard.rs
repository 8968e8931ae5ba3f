use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::super::guard_options::{GuardOptions, is_built_in};
use super::super::{EngineOptions, Failure, WasiOption, output};
use crate::print::outln;
use logship_runtime::stage::Stage;

/// Writes limits into a component: a budget of instructions for each call, and a maximum for its memory.
///
/// logship limits stages itself. Other hosts, such as Spin, let a stage compute for ever and allocate 4 GiB. A guarded
/// stage traps instead, in any host, and returns the same bytes as before. It is some tenth slower.
///
/// The maximum of memory is --stage-memory. `logship function compose` guards stages by itself.
#[derive(Debug, Args)]
pub(in crate::commands) struct GuardCommand {
    /// The component.
    component: PathBuf,
    /// Writes the guarded component to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    options: GuardOptions,
    #[command(flatten)]
    wasi: WasiOption,
}

impl GuardCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let name = self.component.display().to_string();
        let bytes = fs::read(&self.component).map_err(|error| format!("{name}: {error}"))?;
        let guarded = self.options.guard(engine, &name, &bytes)?;
        // Checks the component like any stage, before writing it.
        let origin = self.output.display().to_string();
        let stage = Stage::load(&engine.engine()?, &origin, &guarded, &self.wasi.allowlist())?;
        output::write(&self.output, &guarded).map_err(|error| format!("{origin}: {error}"))?;
        let budget = if is_built_in(&bytes) { ", built in: no budget" } else { "" };
        outln!(
            "{origin}: {}, {} {}, {}{budget}",
            super::kib(guarded.len()),
            stage.identity().name(),
            stage.identity().version(),
            stage.kind()
        );
        Ok(())
    }
}
