//! The wasmtime engine: limits, deadlines, the cache of compiled code.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::error::Context as _;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, Store,
};

use crate::guest::Guest;
use crate::stage::{Identity, Kind, Tallied, Tallies, Tally};

/// How often the epoch moves, and so how exactly a deadline is kept.
const TICK: Duration = Duration::from_millis(10);

/// What a stage may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: usize,
    /// Time that one call may take; built-in stages are trusted to end.
    pub deadline: Duration,
    /// Instances that may be alive at the same time. Each takes address space, not memory.
    pub instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 256 << 20, deadline: Duration::from_secs(10), instances: 1000 }
    }
}

/// The wasmtime engine that runs stages, the cache of their compiled code, and the clock of their
/// deadlines. Clones share all of it.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    /// The same without the check of the deadline in every loop.
    unchecked: wasmtime::Engine,
    limits: Limits,
    tallies: Arc<Tallies>,
}

impl Engine {
    /// An engine that keeps compiled code in `cache`; without one each stage is compiled at each
    /// start, which takes up to a second.
    ///
    /// wasmtime keys what it keeps by digest of the component, by its own version and settings. The
    /// folder holds machine code: it must belong to whoever runs logship, and to nobody else.
    ///
    /// # Errors
    /// When the cache folder can't be made, or the machine has too little address space.
    pub fn new(limits: Limits, cache: Option<&Path>) -> wasmtime::Result<Self> {
        if let Some(folder) = cache {
            own(folder).with_context(|| format!("the cache of compiled stages, {}", folder.display()))?;
        }
        let wasmtime = wasmtime::Engine::new(&config(&limits, cache)?)?;
        tick(wasmtime.weak());
        let unchecked = wasmtime::Engine::new(config(&limits, cache)?.epoch_interruption(false))?;
        Ok(Self { wasmtime, unchecked, limits, tallies: Arc::default() })
    }

    /// An engine for the stages that come with logship. Their loops are trusted to end, as the host's own
    /// are: the check of the deadline, which every loop of a stranger's stage has, costs a quarter to a
    /// third of the speed. All other limits are the same.
    pub(crate) fn for_built_in(&self) -> Self {
        Self { wasmtime: self.unchecked.clone(), ..self.clone() }
    }

    /// What each stage may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the calls of the component of a digest, in hexadecimal, took since the engine began; none if it was never
    /// loaded.
    pub fn tallied(&self, digest: &str, kind: Kind) -> Option<Tallied> {
        self.tallies.tallied(digest, kind)
    }

    /// Where calls of a component are counted.
    pub(crate) fn tally(&self, stage: &Identity, kind: Kind) -> Arc<Tally> {
        self.tallies.of(stage, kind)
    }

    /// Brings what was counted of all components to what the process tells.
    pub(crate) fn export_tallies(&self) {
        self.tallies.export();
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// A linker with nothing in it: stages have no imports, and this is where it is enforced.
    pub(crate) fn linker(&self) -> Linker<Guest> {
        Linker::new(&self.wasmtime)
    }

    pub(crate) fn store(&self) -> Store<Guest> {
        let mut store = Store::new(&self.wasmtime, Guest::new(self.limits.memory));
        store.limiter(|guest| guest);
        // A batch or an answer can't be larger than the guest's memory; wasmtime's own limit of
        // 128 MiB a call is for hosts that copy what a stranger says.
        store.set_hostcall_fuel(self.limits.memory);
        store
    }

    /// The deadline of a call, in ticks from now.
    pub(crate) fn deadline_ticks(&self) -> u64 {
        self.limits.deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Makes the folder, or sees to it that it is the user's and nobody else writes to it: what is in it is
/// run.
pub(crate) fn own(folder: &Path) -> wasmtime::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let facts = folder.metadata()?;
    if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
        wasmtime::bail!(
            "belongs to another user, or others may write to it; it holds machine code: choose another folder with --cache"
        );
    }
    Ok(())
}

/// Where compiled stages are kept unless the user says otherwise: `$XDG_CACHE_HOME/logship`, or
/// `~/.cache/logship`.
pub fn default_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    folder.is_absolute().then(|| folder.join("logship"))
}

fn config(limits: &Limits, cache: Option<&Path>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Stages have no imports and so nothing to wait for; plain calls are cheaper without.
        .concurrency_support(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    if let Some(folder) = cache {
        let mut cache = CacheConfig::new();
        cache.with_directory(folder);
        config.cache(Some(Cache::new(cache)?));
    }
    Ok(config)
}

fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.instances)
        .total_core_instances(limits.instances * 4)
        .total_memories(limits.instances)
        .total_tables(limits.instances * 4)
        .max_memory_size(limits.memory)
        // Small objects, and calls of functions, wait for the kernel to give memory more than for anything else.
        .linear_memory_keep_resident(1 << 20)
        .pagemap_scan(Enabled::Auto)
        // A component made from Rust is one module; other languages bring their runtime in several.
        .max_core_instances_per_component(64)
        .max_tables_per_component(64)
        .max_memories_per_component(8);
    pool
}

/// Moves the epoch as long as the engine lives.
fn tick(engine: EngineWeak) {
    let ticker = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("epoch".into()).spawn(ticker).expect("a thread can be started");
}
