//! Components that are ready to be called: compiled once, with an instance of its own for each call.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Semaphore;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Accessor, Component, ComponentType, InstancePre, Lift, Linker, Lower, ResourceTable, ResourceType,
};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    StoreLimits, StoreLimitsBuilder, Trap, UpdateDeadline,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::bindings::{Service, ServiceIndices};
use wasmtime_wasi_http::p3::{Request, bindings::http::types::ErrorCode};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::outbound::{Allowed, Outbound};

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of linear memory, all parts of a component together.
    pub memory: usize,
    /// How long a call may take, waiting and all.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30, time: Duration::from_secs(60) }
    }
}

/// How a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// Each of its loops looks whether others wait, or its time is over.
    Watched,
    /// Its loops are trusted to end, as the host's own are: to look costs them a third of their speed. What it waits for
    /// has its time all the same.
    Unwatched,
}

/// What compiles and runs components.
#[derive(Debug, Clone)]
pub struct Runtime {
    watched: Engine,
    unwatched: Engine,
    /// A permit for each call that there is room for.
    turns: Arc<Semaphore>,
    limits: Limits,
}

/// A component that can be called.
#[derive(Clone)]
pub struct Function {
    engine: Engine,
    turns: Arc<Semaphore>,
    pre: InstancePre<State>,
    outbound: Outbound,
    variables: Arc<BTreeMap<String, String>>,
    limits: Limits,
}

/// Why a component can't be called.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine can't be made here.
    #[error("the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    /// The component can't be compiled.
    #[error("the component can't be compiled: {0:#}")]
    Compile(wasmtime::Error),
    /// It imports what is not there.
    #[error("the component wants what is not there: {0:#}")]
    Link(wasmtime::Error),
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It trapped, or took more memory than it may.
    #[error("the function ended: {}", cause(.0))]
    Trap(wasmtime::Error),
    /// It answered with an error.
    #[error("the function failed: {0}")]
    Failed(String),
    /// It took longer than it may.
    #[error("the function took longer than {} seconds", .0.as_secs())]
    TooLong(Duration),
}

/// Why a call ended. What serves an import says all that there is to say; of a trap, where it was is told too.
fn cause(error: &wasmtime::Error) -> String {
    if error.is::<Trap>() { format!("{error:#}") } else { error.root_cause().to_string() }
}

/// What an instance has to itself.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outbound: Outbound,
    variables: Arc<BTreeMap<String, String>>,
    limits: StoreLimits,
}

impl State {
    /// The resources that the instance holds, those of what serves its imports too.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// The variables of Spin (`spin:variables`), with the errors that it names.
const VARIABLES: &str = "spin:variables/variables@3.0.0";

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum VariableError {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

/// The subscriber that a component exports, and the errors that it names (`spin:redis`).
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

/// Calls that run at the same time; others wait.
const CALLS: u32 = 100;

/// Components with a memory of their own that one may be composed of.
const PARTS: u32 = 8;

/// Bytes of memory that are kept for the next call.
const KEPT: usize = 16 << 20;

/// How often a busy function lets others go on, and is looked at for its time.
const TICK: Duration = Duration::from_millis(10);

impl Runtime {
    /// An engine with WASI 0.3. What it compiles, it keeps in the folder `cache`, if there is one.
    ///
    /// # Errors
    /// When there is none on this machine, or the folder can't be used.
    pub fn new(limits: Limits, cache: Option<&Path>) -> Result<Self, RuntimeError> {
        let engine = |runs| engine(&limits, cache, runs).map_err(RuntimeError::Engine);
        let (watched, unwatched) = (engine(Runs::Watched)?, engine(Runs::Unwatched)?);
        let ticker = watched.weak();
        std::thread::spawn(move || {
            while let Some(engine) = ticker.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        });
        Ok(Self { watched, unwatched, turns: Arc::new(Semaphore::new(CALLS as usize)), limits })
    }

    /// Compiles a component, or loads what was compiled of it before.
    ///
    /// # Errors
    /// When it is none.
    pub fn component(&self, component: &[u8], runs: Runs) -> Result<Component, RuntimeError> {
        let engine = match runs {
            Runs::Watched => &self.watched,
            Runs::Unwatched => &self.unwatched,
        };
        Component::from_binary(engine, component).map_err(RuntimeError::Compile)
    }

    /// What a component imports, by name.
    pub fn imports(&self, component: &Component) -> Vec<String> {
        component.component_type().imports(component.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// What serves the platform's imports of a component: WASI, and variables.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn linker(&self, component: &Component) -> Result<Linker<State>, RuntimeError> {
        linker(component.engine(), component).map_err(RuntimeError::Link)
    }

    /// Makes a component ready: checks that all it imports is in the linker.
    ///
    /// # Errors
    /// When it wants more.
    pub fn function(
        &self,
        component: &Component,
        linker: &Linker<State>,
        variables: BTreeMap<String, String>,
        allowed: Vec<Allowed>,
    ) -> Result<Function, RuntimeError> {
        Ok(Function {
            engine: component.engine().clone(),
            turns: Arc::clone(&self.turns),
            pre: linker.instantiate_pre(component).map_err(RuntimeError::Link)?,
            outbound: Outbound(allowed.into()),
            variables: variables.into(),
            limits: self.limits,
        })
    }
}

fn engine(limits: &Limits, cache: Option<&Path>, runs: Runs) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model_async(true)
        .epoch_interruption(runs == Runs::Watched)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    if let Some(folder) = cache {
        let mut settings = CacheConfig::new();
        settings.with_directory(folder);
        config.cache(Some(Cache::new(settings)?));
    }
    Engine::new(&config)
}

/// Room for the instances of calls. Pages that a call has written to are kept for the next one, zeroed: the kernel
/// takes longer to give new ones.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(CALLS * PARTS)
        .total_core_instances(CALLS * PARTS * 4)
        .total_memories(CALLS * PARTS)
        .total_tables(CALLS * PARTS * 4)
        .total_stacks(CALLS * 4)
        .max_memory_size(limits.memory.min(1 << 32))
        .max_core_instances_per_component(PARTS * 8)
        .max_memories_per_component(PARTS)
        .max_tables_per_component(PARTS * 8)
        .linear_memory_keep_resident(KEPT)
        .pagemap_scan(Enabled::Auto);
    pool
}

fn linker(engine: &Engine, component: &Component) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    linker.instance(VARIABLES)?.func_wrap_concurrent(
        "get",
        |accessor: &Accessor<State>, (name,): (String,)| {
            Box::pin(async move {
                let value = accessor.with(|mut state| state.get().variables.get(&name).cloned());
                Ok((value.ok_or_else(|| VariableError::Undefined(format!("no variable {name}"))),))
            })
        },
    )?;
    // What of Redis a subscriber imports are its types, one of them a connection that is never opened.
    let ty = component.component_type();
    for (name, item) in ty.imports(engine) {
        if let ComponentItem::ComponentInstance(instance) = item.ty
            && name.starts_with("spin:redis/")
        {
            let mut into = linker.instance(name)?;
            for (name, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::Resource(_)) {
                    into.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
            }
        }
    }
    Ok(linker)
}

/// A body that is there as a whole, or comes piece by piece.
pub type RequestBody = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;

impl Function {
    fn store(&self) -> Store<State> {
        let limits =
            StoreLimitsBuilder::new().memory_size(self.limits.memory).trap_on_grow_failure(true).build();
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stdout().inherit_stderr();
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
        // What it passes to who serves its imports can't be larger than its memory.
        store.set_hostcall_fuel(self.limits.memory);
        store.set_epoch_deadline(1);
        // Busy or not, it is then that the time of the call is looked at.
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }

    /// Lets it answer a request.
    ///
    /// # Errors
    /// When it traps, fails, or takes too long.
    pub async fn answer(
        &self,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<Full<Bytes>>, CallError> {
        self.within(async {
            let mut store = self.store();
            let instance = self.pre.instantiate_async(&mut store).await.map_err(CallError::Trap)?;
            let indices = ServiceIndices::new(&self.pre).map_err(CallError::Trap)?;
            let service: Service = indices.load(&mut store, &instance).map_err(CallError::Trap)?;
            let (request, sent) = Request::from_http(&mut self.outbound.clone(), request);
            let answered = store
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
            match answered.flatten().map_err(CallError::Trap)? {
                Ok(response) => Ok(response),
                Err(code) => Err(CallError::Failed(code.to_string())),
            }
        })
        .await
    }

    /// Whether it takes messages of Redis.
    pub fn is_subscriber(&self) -> bool {
        self.pre.component().get_export_index(None, SUBSCRIBER).is_some()
    }

    /// Gives it a message.
    ///
    /// # Errors
    /// When it traps, fails, takes too long, or takes no messages.
    pub async fn take(&self, message: Vec<u8>) -> Result<(), CallError> {
        self.within(async {
            let mut store = self.store();
            let instance = self.pre.instantiate_async(&mut store).await.map_err(CallError::Trap)?;
            let exported = self.pre.component().get_export_index(None, SUBSCRIBER);
            let taken =
                exported.and_then(|at| self.pre.component().get_export_index(Some(&at), "handle-message"));
            let taken = taken.ok_or_else(|| CallError::Failed(format!("it exports no {SUBSCRIBER}")))?;
            let handle = instance
                .get_typed_func::<(Vec<u8>,), (Result<(), RedisError>,)>(&mut store, taken)
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

    async fn within<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let in_turn = async {
            // Never closed: an error there is none.
            let _turn = self.turns.acquire().await;
            call.await
        };
        let ended = tokio::time::timeout(self.limits.time, in_turn).await;
        ended.unwrap_or_else(|_| Err(CallError::TooLong(self.limits.time)))
    }
}
