use std::path::{Path, PathBuf};

use clap::Args;

use super::super::connect;
use super::super::{EngineOptions, Failure};
use super::origin::RegistryOptions;
use crate::print::outln;
use logship_registry::Registry;
use logship_registry::oci::artifact::Artifact;
use logship_runtime::wasi::WasiAllowlist;

/// Pushes a component to an OCI registry, for `logship stage add` and other tools.
///
/// Checks first that the component is a stage. A directory of WIT is pushed as a WIT package.
#[derive(Debug, Args)]
pub(in crate::commands) struct PushCommand {
    /// The component file, or the directory of a WIT package.
    file: PathBuf,
    /// The target REGISTRY/NAME:TAG, such as ghcr.io/acme/cef:1.2.
    to: String,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl PushCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let mut client = self.registry.client(&self.to)?;
        let artifact = match self.file.is_dir() {
            true => Artifact::of_wit(&self.file)?,
            false => stage(&self.file, engine)?,
        };
        outln!("pushed {}", connect::run(async { Ok(client.push(artifact).await?) })?);
        Ok(())
    }
}

fn stage(file: &Path, engine: &EngineOptions) -> Result<Artifact, Failure> {
    let origin = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| format!("{origin}: {error}"))?;
    // The service that runs the stage decides about its imports.
    let registry = Registry::new(engine.engine()?).with_wasi_allowlist(WasiAllowlist::All);
    let stage = registry.compile(&origin, &bytes)?;
    let identity = stage.identity();
    outln!("{} {} is a stage: {}", identity.name(), identity.version(), stage.kind());
    Ok(Artifact::of_stage(&stage, bytes)?)
}
