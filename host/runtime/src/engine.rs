//! The wasmtime engine: limits, deadlines and the cache of compiled code.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use logship_wasm::code_cache::CodeCache;
use logship_wasm::compile_process::CompileProcess;
use logship_wasm::compiler::{CompileError, Compiler, Origin};
use logship_wasm::ticker::{self, Running};
use wasmtime::component::{Component, Linker};
use wasmtime::error::Context as _;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store, Trap,
    UpdateDeadline,
};

use crate::code::Code;
use crate::deadline::{Deadline, thread_cpu_time, unblock_traps, watcher};
use crate::guest::Guest;
use crate::identity::Identity;
use crate::kind::Kind;
use crate::metrics::{StageMetrics, StageMetricsRegistry, StageMetricsSnapshot};

/// Resource limits of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: usize,
    /// Maximum CPU time of one call.
    pub deadline: Duration,
    /// Maximum number of live instances. Each reserves address space, not memory.
    pub instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 256 << 20, deadline: Duration::from_secs(10), instances: 1000 }
    }
}

/// The wasmtime engine for stages, with the cache of compiled code, the deadlines and the stage metrics.
/// Clones share all of these.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    /// A second engine with epoch interruption, created on first use.
    epoch_engine: Arc<OnceLock<wasmtime::Engine>>,
    deadline_mode: DeadlineMode,
    origin: Origin,
    /// Code addresses of the component of this engine, for deadlines by signal.
    code: Option<Arc<Code>>,
    limits: Limits,
    compiler: Compiler,
    stage_metrics: Arc<StageMetricsRegistry>,
}

/// The mechanism that stops a stage's call at its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeadlineMode {
    /// By wasmtime's epochs. The check in every loop costs a fifth to a third of the speed. [Built-in
    /// stages](Engine::for_built_in) use [`None`](Self::None).
    #[default]
    Epoch,
    /// By a signal, without overhead. Only on Linux on x86-64. On other machines, and for components with
    /// tail calls, [`Epoch`](Self::Epoch) is used instead. It rewrites return addresses of a running thread, which
    /// shadow stacks forbid.
    Signal,
    /// Never. The stage is trusted to end, like the host itself.
    None,
}

impl Engine {
    /// Creates an engine that caches compiled code in `cache`. Without a cache, each start compiles every
    /// stage, which takes up to a second per stage.
    ///
    /// The folder holds machine code: it must belong to the user who runs logship, and only this user may write to it.
    ///
    /// # Errors
    /// If the cache folder can't be created or is not private, or if the address space is too small.
    pub fn new(limits: Limits, cache: Option<&Path>) -> wasmtime::Result<Self> {
        let cache = cache.map(CodeCache::open).transpose().context("the cache of compiled stages")?;
        Ok(Self {
            wasmtime: wasmtime::Engine::new(&pooled(STAGE, &limits))?,
            epoch_engine: Arc::default(),
            deadline_mode: DeadlineMode::default(),
            origin: Origin::Untrusted,
            code: None,
            limits,
            compiler: Compiler::new(cache),
            stage_metrics: Arc::default(),
        })
    }

    /// Returns the same engine that compiles stages in a child process, except built-in ones.
    pub fn with_compile_process(self, process: CompileProcess) -> Self {
        Self { compiler: self.compiler.with_process(process), ..self }
    }

    /// Returns the child process that checks components, unless they are built in or are compiled in this process.
    pub(crate) fn check_process(&self) -> Option<&CompileProcess> {
        self.compiler.process().filter(|_| self.origin == Origin::Untrusted)
    }

    /// Returns the same engine with another deadline mode.
    pub fn with_deadline_mode(&self, deadline_mode: DeadlineMode) -> Self {
        Self { deadline_mode, ..self.clone() }
    }

    /// Returns an engine for built-in stages, which are trusted to end. It checks no epochs.
    pub fn for_built_in(&self) -> Self {
        let deadline_mode = match self.deadline_mode {
            DeadlineMode::Signal if Code::SUPPORTS_SIGNALS => DeadlineMode::Signal,
            _ => DeadlineMode::None,
        };
        Self { origin: Origin::BuiltIn, ..self.with_deadline_mode(deadline_mode) }
    }

    /// Compiles a component. Returns it with the engine that enforces its deadline.
    ///
    /// # Errors
    /// If `bytes` is not a component, or wasmtime can't run it.
    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<(Self, Component), CompileError> {
        if self.deadline_mode == DeadlineMode::Epoch {
            return self.compile_with_epochs(bytes);
        }
        match self.compiler.component(&self.wasmtime, STAGE, bytes, self.origin) {
            Ok(component) if self.deadline_mode == DeadlineMode::None => Ok((self.clone(), component)),
            Ok(component) => match Code::of(&component) {
                Some(code) => {
                    let installed = watcher::install().context("can't install the deadlines of stages");
                    installed.map_err(CompileError::Wasmtime)?;
                    Ok((Self { code: Some(Arc::new(code)), ..self.clone() }, component))
                }
                None => self.compile_with_epochs(bytes),
            },
            // The component may have tail calls, which only the other engine accepts. Otherwise the first
            // error is the right one.
            Err(error) => self.compile_with_epochs(bytes).map_err(|_| error),
        }
    }

    fn compile_with_epochs(&self, bytes: &[u8]) -> Result<(Self, Component), CompileError> {
        let wasmtime = self.epoch_engine().map_err(CompileError::Wasmtime)?;
        let component = self.compiler.component(&wasmtime, STAGE_WITH_EPOCHS, bytes, self.origin)?;
        Ok((Self { wasmtime, deadline_mode: DeadlineMode::Epoch, ..self.clone() }, component))
    }

    /// Returns the engine with epoch interruption.
    fn epoch_engine(&self) -> wasmtime::Result<wasmtime::Engine> {
        if let Some(engine) = self.epoch_engine.get() {
            return Ok(engine.clone());
        }
        let engine = wasmtime::Engine::new(&pooled(STAGE_WITH_EPOCHS, &self.limits))?;
        // Another thread may have been first. Then this engine is dropped, which ends its ticks.
        let ticking = engine.weak();
        ticker::listen(move || ticking.upgrade().map(|engine| engine.increment_epoch()).is_some())?;
        Ok(self.epoch_engine.get_or_init(|| engine).clone())
    }

    /// Runs a call under the deadline. Also returns true if the call was stopped and wasmtime's error does
    /// not show it.
    pub(crate) fn call_with_deadline<R>(
        &self,
        store: &mut Store<Guest>,
        call: impl FnOnce(&mut Store<Guest>) -> R,
    ) -> (R, bool) {
        unblock_traps();
        if let Some(code) = &self.code {
            return watcher::run(self.limits.deadline, code, || call(store));
        }
        if self.deadline_mode != DeadlineMode::Epoch {
            return (call(store), false);
        }
        let _ticking = Running::begin();
        let cpu_time = thread_cpu_time();
        let deadline = Deadline::begin(self.limits.deadline, cpu_time);
        store.data_mut().deadline = Some(deadline);
        store.set_epoch_deadline(deadline.remaining_ticks(cpu_time).unwrap_or(0));
        (call(store), false)
    }

    /// Returns the limits of each stage.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns a snapshot of a component's metrics since the engine started. `digest` is in hexadecimal.
    /// `None` if the component was never loaded.
    pub fn stage_metrics_snapshot(&self, digest: &str, kind: Kind) -> Option<StageMetricsSnapshot> {
        self.stage_metrics.snapshot(digest, kind)
    }

    /// Returns the metrics of a component.
    pub(crate) fn metrics_of(&self, stage: &Identity, kind: Kind) -> Arc<StageMetrics> {
        self.stage_metrics.of(stage, kind)
    }

    /// Publishes the metrics of all components to the process's metrics recorder.
    pub fn export_stage_metrics(&self) {
        self.stage_metrics.export();
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Returns an empty linker, which is why stages can't import anything. Stages that may import WASI get an
    /// [empty WASI](crate::wasi).
    pub(crate) fn linker(&self) -> Linker<Guest> {
        Linker::new(&self.wasmtime)
    }

    pub(crate) fn store(&self) -> Store<Guest> {
        let mut store = Store::new(&self.wasmtime, Guest::new(self.limits.memory));
        store.limiter(|guest| guest);
        // A batch or an answer is never larger than the guest's memory. wasmtime's default of 128 MiB per
        // call protects hosts without such a limit.
        store.set_hostcall_fuel(self.limits.memory);
        // Epochs measure the time on the wall. At their deadline, the CPU time decides.
        store.epoch_deadline_callback(|store| {
            let deadline = store.data().deadline;
            match deadline.and_then(|deadline| deadline.remaining_ticks(thread_cpu_time())) {
                Some(ticks) => Ok(UpdateDeadline::Continue(ticks)),
                None => Err(Trap::Interrupt.into()),
            }
        });
        store
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Returns the default cache folder of compiled stages: `$XDG_CACHE_HOME/logship`, or `~/.cache/logship`.
pub fn default_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    folder.is_absolute().then(|| folder.join("logship"))
}

/// The profile of stages without interruption.
const STAGE: &str = "stage";

/// The profile of stages with epoch interruption.
const STAGE_WITH_EPOCHS: &str = "stage-with-epochs";

/// Returns the settings of a profile that affect compiled code. `None` if there is no such profile.
pub fn code_config(profile: &str) -> Option<Config> {
    let has_epochs = profile == STAGE_WITH_EPOCHS;
    if !has_epochs && profile != STAGE {
        return None;
    }
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(has_epochs)
        // Signals can't stop a stage in a tail call.
        .wasm_tail_call(has_epochs)
        // Stages import nothing that waits, not even from the empty WASI. Plain calls are cheaper without
        // concurrency.
        .concurrency_support(false);
    Some(config)
}

/// Returns the settings of an engine with a pool of instances.
fn pooled(profile: &str, limits: &Limits) -> Config {
    let mut config = code_config(profile).unwrap_or_default();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling_config(limits)));
    config
}

fn pooling_config(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.instances)
        .total_core_instances(limits.instances * 4)
        .total_memories(limits.instances)
        .total_tables(limits.instances * 4)
        .max_memory_size(limits.memory)
        // Small objects and function calls spend most of their time waiting for memory from the kernel.
        .linear_memory_keep_resident(1 << 20)
        .pagemap_scan(Enabled::Auto)
        // A Rust component is one module. Other languages add several modules for their runtime.
        .max_core_instances_per_component(64)
        .max_tables_per_component(64)
        .max_memories_per_component(8);
    pool
}
