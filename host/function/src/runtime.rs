//! Components that are ready to be called: compiled once, with an instance of its own for each call.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Accessor, Component, ComponentType, InstancePre, Lift, Linker, Lower, ResourceTable, ResourceType,
};
use wasmtime::{Cache, CacheConfig, Config, Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
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

/// What compiles and runs components.
#[derive(Debug, Clone)]
pub struct Runtime {
    engine: Engine,
    limits: Limits,
}

/// A component that can be called.
#[derive(Clone)]
pub struct Function {
    engine: Engine,
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
    #[error("the function ended: {0:#}")]
    Trap(wasmtime::Error),
    /// It answered with an error.
    #[error("the function failed: {0}")]
    Failed(String),
    /// It took longer than it may.
    #[error("the function took longer than {} seconds", .0.as_secs())]
    TooLong(Duration),
}

/// What an instance has to itself.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outbound: Outbound,
    variables: Arc<BTreeMap<String, String>>,
    limits: StoreLimits,
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

/// How often a busy function lets others go on, and is looked at for its time.
const TICK: Duration = Duration::from_millis(10);

impl Runtime {
    /// An engine with WASI 0.3. What it compiles, it keeps in the folder `cache`, if there is one.
    ///
    /// # Errors
    /// When there is none on this machine, or the folder can't be used.
    pub fn new(limits: Limits, cache: Option<&Path>) -> Result<Self, RuntimeError> {
        let mut config = Config::new();
        config.wasm_component_model_async(true).epoch_interruption(true);
        if let Some(folder) = cache {
            let mut settings = CacheConfig::new();
            settings.with_directory(folder);
            config.cache(Some(Cache::new(settings).map_err(RuntimeError::Engine)?));
        }
        let engine = Engine::new(&config).map_err(RuntimeError::Engine)?;
        let ticker = engine.weak();
        std::thread::spawn(move || {
            while let Some(engine) = ticker.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        });
        Ok(Self { engine, limits })
    }

    /// Makes a component ready: compiles it, and checks that all it imports is there.
    ///
    /// # Errors
    /// When it is none, or wants more.
    pub fn function(
        &self,
        component: &[u8],
        variables: BTreeMap<String, String>,
        allowed: Vec<Allowed>,
    ) -> Result<Function, RuntimeError> {
        let component = Component::from_binary(&self.engine, component).map_err(RuntimeError::Compile)?;
        self.ready(&component, variables, allowed)
    }

    /// A component as it was compiled before, by [`compile`](Self::compile) of the same engine.
    ///
    /// # Safety
    /// The bytes must be those that `compile` gave: they are run as they are.
    ///
    /// # Errors
    /// When they are of another engine.
    pub unsafe fn compiled(
        &self,
        compiled: &[u8],
        variables: BTreeMap<String, String>,
        allowed: Vec<Allowed>,
    ) -> Result<Function, RuntimeError> {
        // SAFETY: the caller's promise.
        let component =
            unsafe { Component::deserialize(&self.engine, compiled) }.map_err(RuntimeError::Compile)?;
        self.ready(&component, variables, allowed)
    }

    /// The machine code of a component.
    ///
    /// # Errors
    /// When it is none.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>, RuntimeError> {
        self.engine.precompile_component(component).map_err(RuntimeError::Compile)
    }

    fn ready(
        &self,
        component: &Component,
        variables: BTreeMap<String, String>,
        allowed: Vec<Allowed>,
    ) -> Result<Function, RuntimeError> {
        let pre = linker(&self.engine, component).and_then(|linker| linker.instantiate_pre(component));
        Ok(Function {
            engine: self.engine.clone(),
            pre: pre.map_err(RuntimeError::Link)?,
            outbound: Outbound(allowed.into()),
            variables: variables.into(),
            limits: self.limits,
        })
    }
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
        let ended = tokio::time::timeout(self.limits.time, call).await;
        ended.unwrap_or_else(|_| Err(CallError::TooLong(self.limits.time)))
    }
}
