//! Compiles components once, and makes functions of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logship_wasm::code_cache::CodeCache;
use logship_wasm::compile_process::CompileProcess;
use logship_wasm::compiler::{CompileError, Compiler, Origin};
use logship_wasm::ticker;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

pub use crate::error::CallError;
pub use crate::function::{Function, RequestBody, ResponseBody};
use crate::instance::InstanceConfig;
pub use crate::limits::{Limits, Reuse};
use crate::linker::linker;
use crate::outbound::{AllowedHost, Outbound};
use crate::output::Output;
pub use crate::state::State;

/// The enforcement of a component's deadline while it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlineMode {
    /// Each loop checks wasmtime's epoch, and yields or ends at the deadline.
    Epoch,
    /// Loops are not checked, as checks cost a third of the speed. For trusted components only. The timeout still
    /// applies while the component waits.
    None,
}

/// Compiles and runs components.
#[derive(Debug, Clone)]
pub struct Runtime {
    epoch_engine: Engine,
    no_deadline_engine: Engine,
    compiler: Compiler,
    /// One permit for each concurrent call.
    permits: Arc<Semaphore>,
    limits: Limits,
    output: Option<[Output; 2]>,
}

/// A failed preparation of a component.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine can't be created.
    #[error("can't create the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    /// The component can't be compiled.
    #[error("the component can't be compiled: {0}")]
    Compile(CompileError),
    /// The component has an import that nothing provides.
    #[error("the component has an import that the host doesn't provide: {0:#}")]
    Link(wasmtime::Error),
}

/// Maximum number of concurrent calls. Further calls wait.
const MAX_CONCURRENT_CALLS: u32 = 100;

/// Maximum number of components with their own memory in a composed component.
const MAX_PARTS: u32 = 8;

/// Memory that stays resident for the next call, in bytes.
const KEEP_RESIDENT: usize = 16 << 20;

impl Runtime {
    /// Creates a runtime with WASI 0.3. Stores compiled code in the folder `cache`, if set.
    ///
    /// # Errors
    /// Fails if the engine doesn't support this machine, or the folder can't be used.
    pub fn new(limits: Limits, cache: Option<&Path>) -> Result<Self, RuntimeError> {
        let cache = cache.map(CodeCache::open).transpose();
        let cache = cache.map_err(|error| RuntimeError::Engine(error.into()))?;
        let engine = |profile| engine(&limits, profile).map_err(RuntimeError::Engine);
        let (epoch_engine, no_deadline_engine) = (engine(FUNCTION_WITH_EPOCHS)?, engine(FUNCTION)?);
        // A busy function yields at each tick, and its timeout is checked.
        let ticking = epoch_engine.weak();
        ticker::listen(move || ticking.upgrade().map(|engine| engine.increment_epoch()).is_some())
            .map_err(|error| RuntimeError::Engine(error.into()))?;
        Ok(Self {
            epoch_engine,
            no_deadline_engine,
            compiler: Compiler::new(cache),
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS as usize)),
            limits,
            output: None,
        })
    }

    /// Hands on what functions print. By default they print to this process's streams, and fail if these can't be
    /// written.
    #[must_use]
    pub fn with_output(self, stdout: Output, stderr: Output) -> Self {
        Self { output: Some([stdout, stderr]), ..self }
    }

    /// Returns the same runtime that compiles untrusted components in a child process.
    pub fn with_compile_process(self, process: CompileProcess) -> Self {
        Self { compiler: self.compiler.with_process(process), ..self }
    }

    /// Compiles a component, or loads its compiled code from the cache. A component without a deadline is trusted.
    ///
    /// # Errors
    /// Fails if the bytes are not a valid component.
    pub fn component(&self, component: &[u8], mode: DeadlineMode) -> Result<Component, RuntimeError> {
        let (engine, profile, origin) = match mode {
            DeadlineMode::Epoch => (&self.epoch_engine, FUNCTION_WITH_EPOCHS, Origin::Untrusted),
            DeadlineMode::None => (&self.no_deadline_engine, FUNCTION, Origin::BuiltIn),
        };
        self.compiler.component(engine, profile, component, origin).map_err(RuntimeError::Compile)
    }

    /// Returns the names of a component's imports.
    pub fn imports(&self, component: &Component) -> Vec<String> {
        component.component_type().imports(component.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Creates a linker with the platform's interfaces: WASI, variables, and the types of `spin:redis`.
    ///
    /// # Errors
    /// Fails if a name is defined twice.
    pub fn linker(&self, component: &Component) -> Result<Linker<State>, RuntimeError> {
        linker(component.engine(), component).map_err(RuntimeError::Link)
    }

    /// Links a component, and checks that the linker provides all its imports.
    ///
    /// # Errors
    /// Fails if an import is missing.
    pub fn function(
        &self,
        component: &Component,
        linker: &Linker<State>,
        variables: BTreeMap<String, String>,
        allowed: Vec<AllowedHost>,
    ) -> Result<Function, RuntimeError> {
        let pre = linker.instantiate_pre(component).map_err(RuntimeError::Link)?;
        let config = InstanceConfig {
            engine: component.engine().clone(),
            outbound: Outbound(allowed.into()),
            variables: variables.into(),
            limits: self.limits,
            output: self.output.clone(),
        };
        Ok(Function::new(config, pre, Arc::clone(&self.permits)))
    }
}

/// The profile of functions without interruption.
const FUNCTION: &str = "function";

/// The profile of functions with epoch interruption.
const FUNCTION_WITH_EPOCHS: &str = "function-with-epochs";

/// Returns the settings of a profile that affect compiled code. `None` if there is no such profile.
pub fn code_config(profile: &str) -> Option<Config> {
    let has_epochs = profile == FUNCTION_WITH_EPOCHS;
    if !has_epochs && profile != FUNCTION {
        return None;
    }
    let mut config = Config::new();
    config.wasm_component_model_async(true).epoch_interruption(has_epochs);
    Some(config)
}

fn engine(limits: &Limits, profile: &str) -> wasmtime::Result<Engine> {
    let mut config = code_config(profile).unwrap_or_default();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    Engine::new(&config)
}

/// Returns the pool of instances. Pages that a call wrote to are zeroed and kept for the next call, as new pages from
/// the kernel take longer.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_CONCURRENT_CALLS * MAX_PARTS)
        .total_core_instances(MAX_CONCURRENT_CALLS * MAX_PARTS * 4)
        .total_memories(MAX_CONCURRENT_CALLS * MAX_PARTS)
        .total_tables(MAX_CONCURRENT_CALLS * MAX_PARTS * 4)
        .total_stacks(MAX_CONCURRENT_CALLS * 4)
        .max_memory_size(limits.memory.min(1 << 32))
        .max_core_instances_per_component(MAX_PARTS * 8)
        .max_memories_per_component(MAX_PARTS)
        .max_tables_per_component(MAX_PARTS * 8)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}
