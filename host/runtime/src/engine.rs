//! The wasmtime engine: limits, deadlines and the cache of compiled code.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::error::Context as _;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, Store,
};

use crate::code::Code;
use crate::deadline;
use crate::deadline::TICK;
use crate::guest::Guest;
use crate::identity::Identity;
use crate::kind::Kind;
use crate::metrics::{StageMetrics, StageMetricsRegistry, StageMetricsSnapshot};

/// Resource limits of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: usize,
    /// Maximum duration of one call.
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
    /// Code addresses of the component of this engine, for deadlines by signal.
    code: Option<Arc<Code>>,
    limits: Limits,
    cache: Option<PathBuf>,
    stage_metrics: Arc<StageMetricsRegistry>,
}

/// The mechanism that stops a stage's call at its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeadlineMode {
    /// By a signal, without overhead. Only on Linux on x86-64. On other machines, and for components with
    /// tail calls, [`Epoch`](Self::Epoch) is used instead. Built-in stages then use [`None`](Self::None).
    #[default]
    Signal,
    /// By wasmtime's epochs. The check in every loop costs a fifth to a third of the speed.
    Epoch,
    /// Never. The stage is trusted to end, like the host itself.
    None,
}

impl Engine {
    /// Creates an engine that caches compiled code in `cache`. Without a cache, each start compiles every
    /// stage, which takes up to a second per stage.
    ///
    /// wasmtime keys the cache by the component's digest, its own version and its settings. The folder holds
    /// machine code: it must belong to the user who runs logship, and only this user may write to it.
    ///
    /// # Errors
    /// If the cache folder can't be created or is not private, or if the address space is too small.
    pub fn new(limits: Limits, cache: Option<&Path>) -> wasmtime::Result<Self> {
        if let Some(folder) = cache {
            ensure_private(folder)
                .with_context(|| format!("the cache of compiled stages, {}", folder.display()))?;
        }
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(&limits, cache)?)?;
        if Code::SUPPORTS_SIGNALS {
            deadline::install().context("can't install the deadlines of stages")?;
        }
        Ok(Self {
            wasmtime,
            epoch_engine: Arc::default(),
            deadline_mode: DeadlineMode::default(),
            code: None,
            limits,
            cache: cache.map(Path::to_owned),
            stage_metrics: Arc::default(),
        })
    }

    /// Returns the same engine with another deadline mode, to measure the cost of each.
    pub fn with_deadline_mode(&self, deadline_mode: DeadlineMode) -> Self {
        Self { deadline_mode, ..self.clone() }
    }

    /// Returns an engine for built-in stages.
    pub fn for_built_in(&self) -> Self {
        let deadline_mode = if self.deadline_mode == DeadlineMode::Signal && !Code::SUPPORTS_SIGNALS {
            DeadlineMode::None
        } else {
            self.deadline_mode
        };
        self.with_deadline_mode(deadline_mode)
    }

    /// Compiles a component. Returns it with the engine that enforces its deadline.
    ///
    /// # Errors
    /// If `bytes` is not a component, or wasmtime can't run it.
    pub(crate) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<(Self, Component)> {
        if self.deadline_mode == DeadlineMode::Epoch {
            return self.compile_with_epochs(bytes);
        }
        match Component::new(&self.wasmtime, bytes) {
            Ok(component) if self.deadline_mode == DeadlineMode::None => Ok((self.clone(), component)),
            Ok(component) => match Code::of(&component) {
                Some(code) => Ok((Self { code: Some(Arc::new(code)), ..self.clone() }, component)),
                None => self.compile_with_epochs(bytes),
            },
            // The component may have tail calls, which only the other engine accepts. Otherwise the first
            // error is the right one.
            Err(error) => self.compile_with_epochs(bytes).map_err(|_| error),
        }
    }

    fn compile_with_epochs(&self, bytes: &[u8]) -> wasmtime::Result<(Self, Component)> {
        let wasmtime = self.epoch_engine()?;
        let component = Component::new(&wasmtime, bytes)?;
        Ok((Self { wasmtime, deadline_mode: DeadlineMode::Epoch, ..self.clone() }, component))
    }

    /// Returns the engine with epoch interruption.
    fn epoch_engine(&self) -> wasmtime::Result<wasmtime::Engine> {
        if let Some(engine) = self.epoch_engine.get() {
            return Ok(engine.clone());
        }
        let mut config = wasmtime_config(&self.limits, self.cache.as_deref())?;
        let engine = wasmtime::Engine::new(config.epoch_interruption(true).wasm_tail_call(true))?;
        // Another thread may have been first. Then this engine is dropped, which ends its ticker.
        start_epoch_ticker(engine.weak())?;
        Ok(self.epoch_engine.get_or_init(|| engine).clone())
    }

    /// Runs a call under the deadline. Also returns true if the call was stopped and wasmtime's error does
    /// not show it.
    pub(crate) fn call_with_deadline<R>(
        &self,
        store: &mut Store<Guest>,
        call: impl FnOnce(&mut Store<Guest>) -> R,
    ) -> (R, bool) {
        if let Some(code) = &self.code {
            return deadline::run(self.limits.deadline, code, || call(store));
        }
        if self.deadline_mode == DeadlineMode::Epoch {
            store.set_epoch_deadline(self.deadline_ticks());
        }
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
        store
    }

    /// Returns the deadline of a call, in ticks from now.
    fn deadline_ticks(&self) -> u64 {
        self.limits.deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Creates the folder, or checks that it belongs to this user and that nobody else may write to it. The
/// folder's content is executed.
pub fn ensure_private(folder: &Path) -> wasmtime::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = folder.metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        wasmtime::bail!(
            "belongs to another user, or others may write to it. It holds machine code: choose another folder with --cache"
        );
    }
    Ok(())
}

/// Returns the default cache folder of compiled stages: `$XDG_CACHE_HOME/logship`, or `~/.cache/logship`.
pub fn default_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    folder.is_absolute().then(|| folder.join("logship"))
}

fn wasmtime_config(limits: &Limits, cache: Option<&Path>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        // Signals can't stop a stage in a tail call.
        .wasm_tail_call(false)
        // Stages import nothing that waits, not even from the empty WASI. Plain calls are cheaper without
        // concurrency.
        .concurrency_support(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling_config(limits)));
    if let Some(folder) = cache {
        let mut cache = CacheConfig::new();
        cache.with_directory(folder);
        config.cache(Some(Cache::new(cache)?));
    }
    Ok(config)
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

/// Increments the epoch every tick until the engine is dropped.
fn start_epoch_ticker(engine: EngineWeak) -> wasmtime::Result<()> {
    let ticker = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("epoch".into()).spawn(ticker)?;
    Ok(())
}
