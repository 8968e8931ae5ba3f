//! The wasmtime engine: limits, deadlines, the cache of compiled code.

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
use crate::deadline::{self, TICK};
use crate::guest::Guest;
use crate::stage::{Identity, Kind, Tallied, Tallies, Tally};

/// What a stage may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: usize,
    /// Time that one call may take.
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
    /// The same with a check of the deadline in every loop, made when it is needed.
    checked: Arc<OnceLock<wasmtime::Engine>>,
    watch: Watch,
    /// Where the code is of the component that this is for, if it is stopped from outside.
    code: Option<Arc<Code>>,
    limits: Limits,
    cache: Option<PathBuf>,
    tallies: Arc<Tallies>,
}

/// What ends a call of a stage that runs past its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watch {
    /// It is stopped from outside, which costs nothing: on Linux on x86-64. Elsewhere, and for the rare component that can't
    /// be stopped so, as [`Check`](Self::Check); but stages that come with logship are trusted then.
    #[default]
    Stop,
    /// Its loops look at the clock, which costs a fifth to a third of the speed.
    Check,
    /// Nothing does: it is trusted to end, as the host itself is.
    Trust,
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
        if Code::CAN_BE_STOPPED {
            deadline::begin().context("calls of stages could not be stopped at their deadline")?;
        }
        Ok(Self {
            wasmtime,
            checked: Arc::default(),
            watch: Watch::default(),
            code: None,
            limits,
            cache: cache.map(Path::to_owned),
            tallies: Arc::default(),
        })
    }

    /// The same engine with another watch over its stages: so that what each costs can be measured.
    pub fn watched(&self, watch: Watch) -> Self {
        Self { watch, ..self.clone() }
    }

    /// An engine for stages that come with logship.
    pub(crate) fn for_built_in(&self) -> Self {
        let watch =
            if self.watch == Watch::Stop && !Code::CAN_BE_STOPPED { Watch::Trust } else { self.watch };
        self.watched(watch)
    }

    /// Compiles a component. Returns it with the engine in which it keeps the deadline.
    ///
    /// # Errors
    /// When it is no component, or one that wasmtime can't run.
    pub(crate) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<(Self, Component)> {
        if self.watch == Watch::Check {
            return self.compile_checked(bytes);
        }
        match Component::new(&self.wasmtime, bytes) {
            Ok(component) if self.watch == Watch::Trust => Ok((self.clone(), component)),
            Ok(component) => match Code::of(&component) {
                Some(code) => Ok((Self { code: Some(Arc::new(code)), ..self.clone() }, component)),
                None => self.compile_checked(bytes),
            },
            // It may have what only the other engine takes; if not, this is what is wrong with it.
            Err(error) => self.compile_checked(bytes).map_err(|_| error),
        }
    }

    fn compile_checked(&self, bytes: &[u8]) -> wasmtime::Result<(Self, Component)> {
        let wasmtime = self.checked()?;
        let component = Component::new(&wasmtime, bytes)?;
        Ok((Self { wasmtime, watch: Watch::Check, ..self.clone() }, component))
    }

    /// The engine whose loops look at the clock.
    fn checked(&self) -> wasmtime::Result<wasmtime::Engine> {
        if let Some(made) = self.checked.get() {
            return Ok(made.clone());
        }
        let mut config = config(&self.limits, self.cache.as_deref())?;
        let made = wasmtime::Engine::new(config.epoch_interruption(true).wasm_tail_call(true))?;
        // Who is second lets go of its own, and with it the clock of that.
        tick(made.weak())?;
        Ok(self.checked.get_or_init(|| made).clone())
    }

    /// Makes a call, and has it end at the deadline. Tells whether it was stopped then, where wasmtime's error does not.
    pub(crate) fn bounded<R>(
        &self,
        store: &mut Store<Guest>,
        call: impl FnOnce(&mut Store<Guest>) -> R,
    ) -> (R, bool) {
        if let Some(code) = &self.code {
            return deadline::within(self.limits.deadline, code, || call(store));
        }
        if self.watch == Watch::Check {
            store.set_epoch_deadline(self.deadline_ticks());
        }
        (call(store), false)
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

    /// A linker with nothing in it: stages have no imports, and this is where it is enforced. Those that are allowed
    /// to import WASI get an [empty one](crate::wasi).
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
    fn deadline_ticks(&self) -> u64 {
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
        .cranelift_opt_level(OptLevel::Speed)
        // Calls that take their caller's frame are the one place where a stage can't be stopped from outside.
        .wasm_tail_call(false)
        // Stages have no imports to wait for, and an empty WASI never waits; plain calls are cheaper without.
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
fn tick(engine: EngineWeak) -> wasmtime::Result<()> {
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
