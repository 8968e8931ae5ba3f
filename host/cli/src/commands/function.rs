mod check;
mod compose;
mod reuse_options;
mod serve;
mod variables;

use std::path::Path;

use clap::Subcommand;
use logship_spin_runtime::compose::ComponentFile;
use logship_spin_runtime::manifest::{Component, Manifest};

use self::check::CheckCommand;
use self::compose::ComposeCommand;
use self::serve::ServeCommand;
use super::{EngineOptions, Failure};

/// Runs stages as functions: one batch per call, over HTTP or Redis.
///
/// The application is a Spin application: a spin.toml that assigns a component to each stage.
#[derive(Debug, Subcommand)]
pub(super) enum FunctionCommand {
    Serve(ServeCommand),
    Check(CheckCommand),
    Compose(ComposeCommand),
}

impl FunctionCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        match self {
            Self::Serve(command) => command.run(engine),
            Self::Check(command) => command.run(),
            Self::Compose(command) => command.run(engine),
        }
    }
}

/// Returns a component, and the components of its imports.
fn load_parts(
    manifest: &Manifest,
    component: &Component,
) -> Result<(ComponentFile, Vec<(String, ComponentFile)>), Failure> {
    let part = |path: &Path| ComponentFile::read(&manifest.resolve(path));
    let dependencies = component.dependencies.iter();
    let parts = dependencies.map(|(import, dependency)| Ok((import.clone(), part(&dependency.path)?)));
    Ok((part(&component.source)?, parts.collect::<Result<_, Failure>>()?))
}
