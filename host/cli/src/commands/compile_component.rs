use std::time::Duration;

use clap::Args;

use crate::print::errln;
use logship_runtime::stage::preflight;
use logship_wasm::compile_process::{CompileLimits, run_check, run_child};

/// The name of the command.
pub(super) const NAME: &str = "compile-component";

/// Compiles or checks the component on standard input, and writes the result to standard output. logship runs this command
/// for components that are not built in.
#[derive(Debug, Args)]
pub(super) struct CompileComponentCommand {
    /// The settings of the code.
    profile: String,
    /// Limits the memory, in bytes.
    memory: u64,
    /// Limits the CPU time, in seconds.
    seconds: u64,
}

impl CompileComponentCommand {
    pub(super) fn run(self) -> ! {
        let limits = CompileLimits { memory: self.memory, time: Duration::from_secs(self.seconds) };
        if self.profile == preflight::PROFILE {
            std::process::exit(run_check(limits, preflight::report).into());
        }
        let stage = logship_runtime::engine::code_config(&self.profile);
        let config = stage.or_else(|| logship_spin_runtime::runtime::code_config(&self.profile));
        let code = match config {
            Some(config) => run_child(config, limits).into(),
            None => {
                errln!("error: unknown profile {:?}", self.profile);
                1
            }
        };
        std::process::exit(code)
    }
}
