use std::path::{Path, PathBuf};

use clap::Args;

use super::super::connect;
use super::super::{EngineOptions, Failure};
use super::origin::RegistryOptions;
use crate::oci::artifact::Artifact;
use crate::registry::Registry;
use crate::wasi::Allowance;

/// Publishes a component in an OCI registry, for `logship stage add` and other tools for components.
///
/// It is checked first: what is no stage is not pushed. A folder of WIT is pushed as the package that it is.
#[derive(Debug, Args)]
pub(in crate::cli) struct PushCommand {
    /// The component file, or the folder of a WIT package.
    file: PathBuf,
    /// Where to: REGISTRY/NAME:TAG, as ghcr.io/acme/cef:1.2.
    to: String,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl PushCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let mut remote = self.registry.remote(&self.to)?;
        let artifact = match self.file.is_dir() {
            true => Artifact::of_wit(&self.file)?,
            false => stage(&self.file, engine)?,
        };
        println!("pushed {}", connect::run(async { Ok(remote.push(artifact).await?) })?);
        Ok(())
    }
}

fn stage(file: &Path, engine: &EngineOptions) -> Result<Artifact, Failure> {
    let origin = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| format!("{origin}: {error}"))?;
    // Whoever runs it decides what it may import.
    let registry = Registry::new(engine.engine()?).allowing(Allowance::Everybody);
    let stage = registry.examine(&origin, &bytes)?;
    let identity = stage.identity();
    println!("{} {} is a stage: {}", identity.name(), identity.version(), stage.kind());
    Ok(Artifact::of_stage(&stage, bytes)?)
}
