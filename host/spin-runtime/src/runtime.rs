//! Compiles components once, and runs each call in a new instance.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use logship_wasm::code_cache::CodeCache;
use logship_wasm::compile_process::CompileProcess;
use logship_wasm::compiler::{CompileError, Compiler, Origin};
use logship_wasm::ticker::{self, Running};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, Lower, ResourceTable};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimitsBuilder,
    Trap, UpdateDeadline,
};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::p3::bindings::{Service, ServiceIndices};
use wasmtime_wasi_http::p3::{Request, bindings::http::types::ErrorCode};

use crate::linker::linker;
use crate::outbound::{AllowedHost, Outbound};
use crate::output::Output;
pub use crate::state::State;

/// Resource limits of a call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Linear memory of all parts of a component together, in bytes.
    pub memory: usize,
    /// Timeout of a call, including time in the queue.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30, timeout: Duration::from_secs(60) }
    }
}

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

/// A component that can be called.
#[derive(Clone)]
pub struct Function {
    engine: Engine,
    permits: Arc<Semaphore>,
    pre: InstancePre<State>,
    outbound: Outbound,
    variables: Arc<BTreeMap<String, String>>,
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

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The function trapped, or exceeded its memory limit.
    #[error("the function trapped: {}", cause(.0))]
    Trap(wasmtime::Error),
    /// The function returned an error.
    #[error("the function failed: {0}")]
    Failed(String),
    /// The call exceeded its timeout.
    #[error("the function exceeded its timeout of {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Formats the cause of a trap. A wasm trap is shown with its backtrace; an error of an import is shown alone.
fn cause(error: &wasmtime::Error) -> String {
    if error.is::<Trap>() { format!("{error:#}") } else { error.root_cause().to_string() }
}

/// The interface that a Redis subscriber exports. [`RedisError`] mirrors its errors.
const SUBSCRIBER: &str = "spin:redis/inbound-redis@3.0.0";

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum RedisError {
    #[component(name = "invalid-address")]
    InvalidAddress,
    #[component(name = "too-many-connections")]
    TooManyConnections,
    #[component(name = "type-error")]
    TypeError,
    #[component(name = "other")]
    Other(String),
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
        Ok(Function {
            engine: component.engine().clone(),
            permits: Arc::clone(&self.permits),
            pre: linker.instantiate_pre(component).map_err(RuntimeError::Link)?,
            outbound: Outbound(allowed.into()),
            variables: variables.into(),
            limits: self.limits,
            output: self.output.clone(),
        })
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

/// A request body, buffered or streamed.
pub type RequestBody = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;

impl Function {
    fn store(&self) -> Store<State> {
        let limits =
            StoreLimitsBuilder::new().memory_size(self.limits.memory).trap_on_grow_failure(true).build();
        let mut wasi = WasiCtx::builder();
        match &self.output {
            Some([stdout, stderr]) => wasi.stdout(stdout.clone()).stderr(stderr.clone()),
            None => wasi.inherit_stdout().inherit_stderr(),
        };
        let state = State {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            outbound: self.outbound.clone(),
            variables: Arc::clone(&self.variables),
            limits,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        // Limits data passed to imports to the size of the memory.
        store.set_hostcall_fuel(self.limits.memory);
        store.set_epoch_deadline(1);
        // Yields at each epoch, so that the call's timeout is checked.
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }

    /// Calls the function with an HTTP request, and returns its response.
    ///
    /// # Errors
    /// Fails if the function traps, returns an error, or exceeds its timeout.
    pub async fn handle_request(
        &self,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<Full<Bytes>>, CallError> {
        self.with_limits(async {
            let mut store = self.store();
            let instance = self.pre.instantiate_async(&mut store).await.map_err(CallError::Trap)?;
            let indices = ServiceIndices::new(&self.pre).map_err(CallError::Trap)?;
            let service: Service = indices.load(&mut store, &instance).map_err(CallError::Trap)?;
            let (request, sent) = Request::from_http(&mut self.outbound.clone(), request);
            let result = store
                .run_concurrent(async |accessor| -> wasmtime::Result<Result<_, ErrorCode>> {
                    let response = match service.handle(accessor, request).await? {
                        Ok(response) => response,
                        Err(code) => return Ok(Err(code)),
                    };
                    let response = accessor.with(|access| response.into_http(access, async { Ok(()) }))?;
                    let (head, body) = response.into_parts();
                    let body = body.collect().await?.to_bytes();
                    Ok(Ok(http::Response::from_parts(head, Full::new(body))))
                })
                .await;
            drop(sent);
            match result.flatten().map_err(CallError::Trap)? {
                Ok(response) => Ok(response),
                Err(code) => Err(CallError::Failed(code.to_string())),
            }
        })
        .await
    }

    /// Returns true if the function accepts Redis messages.
    pub fn is_subscriber(&self) -> bool {
        self.pre.component().get_export_index(None, SUBSCRIBER).is_some()
    }

    /// Calls the function with a Redis message.
    ///
    /// # Errors
    /// Fails if the function traps, returns an error, exceeds its timeout, or doesn't accept messages.
    pub async fn handle_message(&self, message: Vec<u8>) -> Result<(), CallError> {
        self.with_limits(async {
            let mut store = self.store();
            let instance = self.pre.instantiate_async(&mut store).await.map_err(CallError::Trap)?;
            let interface = self.pre.component().get_export_index(None, SUBSCRIBER);
            let export =
                interface.and_then(|at| self.pre.component().get_export_index(Some(&at), "handle-message"));
            let export = export
                .ok_or_else(|| CallError::Failed(format!("the component doesn't export {SUBSCRIBER}")))?;
            let handle = instance
                .get_typed_func::<(Vec<u8>,), (Result<(), RedisError>,)>(&mut store, export)
                .map_err(CallError::Trap)?;
            let result = store
                .run_concurrent(async |accessor| handle.call_concurrent(accessor, (message,)).await)
                .await;
            match result.flatten().map_err(CallError::Trap)? {
                (Ok(()),) => Ok(()),
                (Err(RedisError::Other(text)),) => Err(CallError::Failed(text)),
                (Err(error),) => Err(CallError::Failed(format!("{error:?}"))),
            }
        })
        .await
    }

    /// Runs a call within the concurrency limit and the timeout.
    async fn with_limits<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let limited = async {
            // Never fails, as the semaphore is never closed.
            let _permit = self.permits.acquire().await;
            let _ticking = Running::begin();
            call.await
        };
        let result = tokio::time::timeout(self.limits.timeout, limited).await;
        result.unwrap_or_else(|_| Err(CallError::Timeout(self.limits.timeout)))
    }
}
