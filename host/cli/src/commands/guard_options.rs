//! The options of guarded components.

use clap::Args;

use super::{EngineOptions, Failure};
use logship_guard::Guard;
use logship_guard::component::DEFAULT_BUDGET;
use logship_registry::Registry;
use logship_registry::digest;
use logship_registry::embedded::{FUNCTIONS, FUSE_ADAPTERS};

/// The limits that a guard writes into a component.
#[derive(Debug, Args)]
pub(super) struct GuardOptions {
    /// Traps a call of a stage after this number of WebAssembly instructions. The default is some seconds of
    /// computation, and hundreds of times as much as a built-in stage takes.
    #[arg(long, value_name = "INSTRUCTIONS", default_value_t = DEFAULT_BUDGET, value_parser = clap::value_parser!(u64).range(1_000_000..))]
    budget: u64,
}

impl GuardOptions {
    /// Returns a stage with a maximum for each memory, and with a budget unless it is built in.
    pub(super) fn guard(&self, engine: &EngineOptions, name: &str, stage: &[u8]) -> Result<Vec<u8>, Failure> {
        let guard = Guard { budget: Some(self.budget), memory: Some(engine.stage_memory()) };
        guard.component(stage, &is_built_in).map_err(|error| format!("{name}: {error}").into())
    }
}

/// Returns true if a component has the bytes of a stage, a fuse adapter or a function of logship.
pub(super) fn is_built_in(component: &[u8]) -> bool {
    let digest = digest(component);
    Registry::is_built_in_component(component)
        || FUSE_ADAPTERS.iter().any(|adapter| adapter.digest == digest)
        || FUNCTIONS.contains(digest.as_str())
}
