use std::path::PathBuf;

use clap::Args;
use logship_guard::Guard;
use logship_spin_runtime::compose::{ComponentFile, compose};
use logship_spin_runtime::environment;
use logship_spin_runtime::manifest::Manifest;

use super::super::guard_options::GuardOptions;
use super::super::{EngineOptions, Failure, output};
use super::load_parts;
use crate::print::outln;

/// Composes a component of an application with its dependencies into one file, for hosts that can't. The file
/// imports only WASI, and Spin's variables unless they come from the environment.
///
/// Stages that are not built in are guarded: each call has a budget of instructions, so that a loop ends with a trap in
/// any host. Each stage's memory has --stage-memory as its maximum.
#[derive(Debug, Args)]
pub(in crate::commands) struct ComposeCommand {
    /// The application's manifest.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    /// The component's name in the application.
    #[arg(long, value_name = "NAME", default_value = "trigger-http")]
    component: String,
    /// Writes the component to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Guards the stages, as by default.
    #[arg(long)]
    guarded: bool,
    /// Leaves the stages as they are: a loop in one never ends in hosts without a limit of their own.
    #[arg(long, conflicts_with_all = ["guarded", "budget"])]
    unguarded: bool,
    /// Limits the memory of the component itself, without its stages, in MiB [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..=4096))]
    trigger_memory: Option<u64>,
    /// Reads the application's variables from the environment, as SPIN_VARIABLE_NAME, instead of Spin's interface. For
    /// hosts without Spin, such as `wasmtime serve`.
    #[arg(long)]
    variables_from_environment: bool,
    #[command(flatten)]
    options: GuardOptions,
}

impl ComposeCommand {
    pub(super) fn run(&self, engine: &EngineOptions) -> Result<(), Failure> {
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
        let parts = parts.into_iter().map(|(import, part)| Ok((import, self.guard(engine, part)?)));
        let mut parts = parts.collect::<Result<Vec<_>, Failure>>()?;
        if self.variables_from_environment {
            parts.push((environment::VARIABLES.into(), environment::variables(&socket)?));
        }
        let composed = compose(&self.limit_memory(socket)?, &parts, |_| false)?;
        output::write(&self.output, &composed)
            .map_err(|error| format!("{}: {error}", self.output.display()))?;
        outln!("{}: {} KiB", self.output.display(), composed.len() / 1024);
        Ok(())
    }

    fn guard(&self, engine: &EngineOptions, stage: ComponentFile) -> Result<ComponentFile, Failure> {
        // The composition says what is wrong with other files.
        if self.unguarded || !is_component(&stage.bytes) {
            return Ok(stage);
        }
        let name = stage.path.display().to_string();
        let guarded = self.options.guard(engine, &name, &stage.bytes);
        let bytes = guarded.map_err(|error| format!("{error}. --unguarded leaves all stages as they are"))?;
        Ok(ComponentFile { bytes, ..stage })
    }

    fn limit_memory(&self, trigger: ComponentFile) -> Result<ComponentFile, Failure> {
        let Some(memory) = self.trigger_memory else { return Ok(trigger) };
        let guard = Guard { budget: None, memory: Some(memory << 20) };
        let limited = guard.component(&trigger.bytes, &|_| true);
        let bytes = limited.map_err(|error| format!("{}: {error}", trigger.path.display()))?;
        Ok(ComponentFile { bytes, ..trigger })
    }
}

/// Returns true if the bytes begin like a component.
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x0d\0\x01\0")
}
