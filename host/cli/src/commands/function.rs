mod check;
mod reuse_options;
mod serve;
mod variables;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use logship_spin_runtime::compose::{ComponentFile, compose};
use logship_spin_runtime::manifest::{Component, Manifest};

use self::check::CheckCommand;
use self::serve::ServeCommand;
use super::{EngineOptions, Failure};
use crate::print::outln;

/// Runs stages as functions: one batch per call, over HTTP or Redis.
///
/// The application is a Spin application: a spin.toml that assigns a component to each stage.
#[derive(Debug, Subcommand)]
pub(super) enum FunctionCommand {
    Serve(ServeCommand),
    Check(CheckCommand),
    Compose(ComposeCommand),
}

/// Composes a component of an application with its dependencies into one file, for hosts that can't. The file
/// imports only WASI and Spin's variables.
#[derive(Debug, Args)]
pub(super) struct ComposeCommand {
    /// The application's manifest.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    /// The component's name in the application.
    #[arg(long, value_name = "NAME", default_value = "trigger-http")]
    component: String,
    /// Writes the component to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl FunctionCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        match self {
            Self::Serve(command) => command.run(engine),
            Self::Check(command) => command.run(),
            Self::Compose(command) => command.run(),
        }
    }
}

impl ComposeCommand {
    fn run(&self) -> Result<(), Failure> {
        let manifest = Manifest::read(&self.application)?;
        let component = manifest.component.get(&self.component).ok_or_else(|| {
            let known: Vec<_> = manifest.component.keys().map(String::as_str).collect();
            format!(
                "{} has no component {:?}; its components: {}",
                self.application.display(),
                self.component,
                known.join(", ")
            )
        })?;
        let (socket, parts) = load_parts(&manifest, component)?;
        let composed = compose(&socket, &parts, |_| false)?;
        super::output::write(&self.output, &composed)
            .map_err(|error| format!("{}: {error}", self.output.display()))?;
        outln!("{}: {} KiB", self.output.display(), composed.len() / 1024);
        Ok(())
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
