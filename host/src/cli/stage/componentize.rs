use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::super::{EngineOptions, Failure, output};
use super::kind::StageKind;
use crate::componentize::componentize;
use crate::stage::Stage;
use crate::wasi::Allowance;

/// Makes a component of a core module.
///
/// For languages whose compilers make modules for WASI preview 1, as Go's does. The module has to export what
/// bindings of wit-bindgen to wit/ do. What it asks of WASI is answered within the component, by an empty one: no files, no
/// environment, clocks that stand, the same random numbers each time. So the component imports nothing.
#[derive(Debug, Args)]
pub(in crate::cli) struct ComponentizeCommand {
    /// The module.
    module: PathBuf,
    /// What kind of stage it is.
    #[arg(long, value_enum)]
    kind: StageKind,
    /// Where to write the component.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ComponentizeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let module = self.module.display();
        let bytes = fs::read(&self.module).map_err(|error| format!("{module}: {error}"))?;
        let component =
            componentize(&bytes, self.kind.into()).map_err(|error| format!("{module}: {error}"))?;
        // It is looked at as any stage is, before it is anywhere.
        let origin = self.output.display().to_string();
        let stage = Stage::load(&engine.engine()?, &origin, &component, &Allowance::Nobody)?;
        output::write(&self.output, &component).map_err(|error| format!("{origin}: {error}"))?;
        let identity = stage.identity();
        println!(
            "{origin}: {}, {} {}, {}",
            super::kib(component.len()),
            identity.name(),
            identity.version(),
            stage.kind()
        );
        Ok(())
    }
}
