//! The options of the stage engine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::{Failure, compile_component};
use crate::print::errln;
use logship_runtime::engine::{DeadlineMode, Engine, Limits, default_cache};
use logship_wasm::compile_process::{CompileLimits, CompileProcess};

/// The limits of stages, and the cache of their compiled code.
#[derive(Debug, Args)]
#[command(next_help_heading = "Stages")]
pub(super) struct EngineOptions {
    /// Limits the memory of one stage instance, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, global = true, value_parser = clap::value_parser!(u64).range(1..=4096))]
    stage_memory: u64,
    /// Limits the CPU time of one call of a stage, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, global = true, value_parser = seconds)]
    pub(super) stage_deadline: f64,
    /// Stops an overdue stage by checks in its loops (epoch), or without their cost by a signal, on Linux on x86-64
    /// without shadow stacks [default: epoch]
    #[arg(long, value_name = "MODE", global = true, env = "LOGSHIP_DEADLINE_MODE", value_parser = deadline_mode())]
    deadline_mode: Option<DeadlineMode>,
    /// Limits the memory to compile a stage that is not built in, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, global = true, value_parser = clap::value_parser!(u64).range(64..=65536))]
    compile_memory: u64,
    /// Limits the CPU time to compile a stage that is not built in, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, global = true, value_parser = clap::value_parser!(u64).range(1..=3600))]
    compile_time: u64,
    /// Caches the compiled code of stages in this directory. It holds machine code, so only you may write to it.
    #[arg(long, value_name = "DIR", global = true, env = "LOGSHIP_CACHE")]
    pub(super) cache: Option<PathBuf>,
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("use a number of seconds from 0.01 to 3600".into()),
    }
}

fn deadline_mode() -> impl clap::builder::TypedValueParser<Value = DeadlineMode> {
    PossibleValuesParser::new(["epoch", "signal"])
        .map(|mode| if mode == "signal" { DeadlineMode::Signal } else { DeadlineMode::Epoch })
}

impl EngineOptions {
    /// Returns the most memory of a stage, in bytes.
    pub(super) fn stage_memory(&self) -> u64 {
        self.stage_memory << 20
    }

    pub(super) fn engine(&self) -> Result<Engine, Failure> {
        self.engine_with(usize::MAX, DeadlineMode::default())
    }

    /// Returns an engine that limits a stage to `memory` bytes, or to the option if it is lower. The deadline mode
    /// is that of the option, or `default_mode`.
    pub(super) fn engine_with(&self, memory: usize, default_mode: DeadlineMode) -> Result<Engine, Failure> {
        let engine = self.cached_engine(memory)?;
        let mode = self.deadline_mode.unwrap_or(default_mode);
        Ok(engine.with_deadline_mode(mode).with_compile_process(self.compile_process()?))
    }

    fn cached_engine(&self, memory: usize) -> Result<Engine, Failure> {
        let limits = Limits {
            memory: ((self.stage_memory as usize) << 20).min(memory),
            deadline: Duration::from_secs_f64(self.stage_deadline),
            ..Limits::default()
        };
        let failed = |error| format!("can't start the stage engine: {error:#}").into();
        if self.cache.is_some() {
            return Engine::new(limits, self.cache.as_deref()).map_err(failed);
        }
        // A service without a home directory has no cache, and compiles its stages at each start.
        let cached = default_cache().map(|cache| Engine::new(limits.clone(), Some(&cache)));
        match cached {
            Some(Ok(engine)) => Ok(engine),
            Some(Err(error)) => {
                errln!("warning: compiled stages are not cached: {error:#}");
                Engine::new(limits, None).map_err(failed)
            }
            None => Engine::new(limits, None).map_err(failed),
        }
    }

    /// Returns the compiler of components that are not built in: this program in a child process.
    pub(super) fn compile_process(&self) -> Result<CompileProcess, Failure> {
        let limits =
            CompileLimits { memory: self.compile_memory << 20, time: Duration::from_secs(self.compile_time) };
        let arguments = [OsString::from(compile_component::NAME)];
        CompileProcess::this_program(arguments, limits)
            .map_err(|error| format!("can't find this program: {error}").into())
    }
}
