//! Host-side stages for the imports of functions.
//!
//! The host connects a function to its stages. Each object, session or key of a call gets its own stage
//! instance, as elsewhere in the host. Values are copied directly from one memory to the other.
//!
//! A single composed component, as for Spin, gives the same bytes but is slower. wasmtime's adapters between
//! components copy lists element by element: a call with 4 MB spent more than a quarter of its time there.
//! All code of a composed component needs a deadline, while here the built-in functions and stages need none.
//! In addition, a function is not recompiled when one of its stages changes.

use std::sync::Arc;

use serde_json::{Value, json};

use logship_spin_runtime::application::ImportProvider;
use logship_spin_runtime::compose::ComponentFile;
use logship_spin_runtime::runtime::State;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceTable,
    ResourceType,
};

use logship_batch::batch::LogBatch;
use logship_registry::embedded::FUNCTIONS;
use logship_registry::{Registry, digest};
use logship_runtime::stage::{
    CompressedObject, CompressorStage, EncodedObject, EncoderStage, FormatterStage, FormattingSession, Kind,
    Loss, RendererStage, Request, Stage, StageError,
};

/// Stages for functions. The registry loads one component for each import of a function.
#[derive(Debug)]
pub struct Stages {
    registry: Registry,
}

impl Stages {
    /// Creates stages that run in the engine of the registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

impl ImportProvider for Stages {
    fn provides(&self, import: &str) -> bool {
        kind(import).is_some()
    }

    fn link(&self, linker: &mut Linker<State>, import: &str, part: &ComponentFile) -> Result<(), String> {
        let kind = kind(import).ok_or("no stage exports this interface")?;
        let origin = part.path.to_string_lossy();
        let stage = self.registry.stage_from_bytes(kind, &origin, &part.bytes).map_err(|error| {
            // The caller adds the component's name.
            let problem = error.to_string();
            problem.strip_prefix(&format!("{origin}: ")).map(str::to_owned).unwrap_or(problem)
        })?;
        let interface = linker.instance(import).map_err(|error| error.to_string())?;
        let mut imports = Imports { interface, has_deadline: !Registry::is_built_in_component(&part.bytes) };
        let linked = match stage {
            Stage::Renderer(stage) => imports.renderer(&stage),
            Stage::Encoder(stage) => imports.encoder(&stage),
            Stage::Compressor(stage) => imports.compressor(&stage),
            Stage::Formatter(stage) => imports.formatter(&stage),
            Stage::RowEncoder(_) | Stage::Transformer(_) | Stage::Pipeline(_) => {
                return Err(format!("a function can't import a {kind}"));
            }
        };
        linked.map_err(|error| format!("{error:#}"))
    }

    fn is_trusted(&self, component: &[u8]) -> bool {
        FUNCTIONS.contains(digest(component).as_str())
    }
}

/// Returns the kind of stage that serves an import.
fn kind(import: &str) -> Option<Kind> {
    let served =
        |kind: &Kind| matches!(kind, Kind::Renderer | Kind::Encoder | Kind::Compressor | Kind::Formatter);
    Kind::of_interface(import).filter(served)
}

/// The functions of an imported interface.
struct Imports<'a> {
    interface: LinkerInstance<'a, State>,
    /// True if the stage is not built in and may run until its deadline. Its calls then run off the async
    /// worker thread.
    has_deadline: bool,
}

impl Imports<'_> {
    fn renderer(&mut self, stage: &Arc<RendererStage>) -> wasmtime::Result<()> {
        use logship_runtime::bindings::renderer::exports::logship::object_path::renderer::{
            ConfigProblem, Error,
        };
        let refusal = |error| match error {
            StageError::Config { path, reason, .. } => {
                Ok(Error::InvalidConfig(ConfigProblem { path, reason }))
            }
            error => Err(error),
        };
        let description = stage.description().clone();
        self.function("describe", move |_, (): ()| Ok(description.clone()))?;
        let stage = Arc::clone(stage);
        self.function("render", move |_, (config, request): (String, Request)| {
            to_contract(stage.render(&config, &request), refusal)
        })
    }

    fn encoder(&mut self, stage: &Arc<EncoderStage>) -> wasmtime::Result<()> {
        use logship_runtime::bindings::encoder::exports::logship::encode::encoder::{
            ConfigProblem, Error, Rejection,
        };
        type Object = Resource<EncodedObject>;
        let refusal = |error| match error {
            StageError::Config { path, reason, .. } => {
                Ok(Error::InvalidConfig(ConfigProblem { path, reason }))
            }
            StageError::InvalidBatch { invariant, .. } => Ok(Error::InvalidBatch(invariant)),
            StageError::Rejected { log, reason, .. } => Ok(Error::Rejected(Rejection { log, reason })),
            StageError::TooLarge { reason, .. } => Ok(Error::TooLarge(reason)),
            error => Err(error),
        };
        self.resource::<EncodedObject>("object")?;
        let description = stage.description().clone();
        self.function("describe", move |_, (): ()| Ok(description.clone()))?;
        let stage = Arc::clone(stage);
        self.function("[static]object.open", move |state, (config,): (String,)| {
            if config == TAKE_LOSSES {
                let (path, reason) = (
                    TAKE_LOSSES_PATH.to_owned(),
                    losses_to_json(&std::mem::take(state.notes::<Vec<Loss>>())),
                );
                return Ok(Err(Error::InvalidConfig(ConfigProblem { path, reason })));
            }
            store_resource(state.table(), to_contract(stage.open(&config), refusal)?)
        })?;
        self.function("[method]object.push", move |state, (object, batch): (Object, LogBatch)| {
            to_contract(state.table().get_mut(&object)?.push(&batch), refusal)
        })?;
        self.function("[method]object.size", |state, (object,): (Object,)| {
            Ok(state.table().get_mut(&object)?.size()?)
        })?;
        self.function("[static]object.finish", move |state, (object,): (Object,)| {
            let finished = state.table().delete(object)?.finish();
            let finished = finished.map(|(bytes, losses)| {
                state.notes::<Vec<Loss>>().extend(losses);
                bytes
            });
            to_contract(finished, refusal)
        })
    }

    fn compressor(&mut self, stage: &Arc<CompressorStage>) -> wasmtime::Result<()> {
        use logship_runtime::bindings::compressor::exports::logship::compress::compressor::{
            ConfigProblem, Error,
        };
        type Object = Resource<CompressedObject>;
        let refusal = |error| match error {
            StageError::Config { path, reason, .. } => {
                Ok(Error::InvalidConfig(ConfigProblem { path, reason }))
            }
            StageError::TooLarge { reason, .. } => Ok(Error::TooLarge(reason)),
            error => Err(error),
        };
        self.resource::<CompressedObject>("object")?;
        let description = stage.description().clone();
        self.function("describe", move |_, (): ()| Ok(description.clone()))?;
        let stage = Arc::clone(stage);
        self.function("[static]object.open", move |state, (config,): (String,)| {
            store_resource(state.table(), to_contract(stage.open(&config), refusal)?)
        })?;
        self.function("[method]object.push", move |state, (object, bytes): (Object, Vec<u8>)| {
            to_contract(state.table().get_mut(&object)?.push(&bytes), refusal)
        })?;
        self.function("[static]object.finish", move |state, (object,): (Object,)| {
            to_contract(state.table().delete(object)?.finish(), refusal)
        })
    }

    fn formatter(&mut self, stage: &Arc<FormatterStage>) -> wasmtime::Result<()> {
        use logship_runtime::bindings::formatter::exports::logship::siem::formatter::{
            ConfigProblem, Error, Rejection,
        };
        type Session = Resource<FormattingSession>;
        let refusal = |error| match error {
            StageError::Config { path, reason, .. } => {
                Ok(Error::InvalidConfig(ConfigProblem { path, reason }))
            }
            StageError::InvalidBatch { invariant, .. } => Ok(Error::InvalidBatch(invariant)),
            StageError::Rejected { log, reason, .. } => Ok(Error::Rejected(Rejection { log, reason })),
            error => Err(error),
        };
        self.resource::<FormattingSession>("session")?;
        let description = stage.description().clone();
        self.function("describe", move |_, (): ()| Ok(description.clone()))?;
        let stage = Arc::clone(stage);
        self.function("[static]session.open", move |state, (config,): (String,)| {
            store_resource(state.table(), to_contract(stage.open(&config), refusal)?)
        })?;
        self.function("[method]session.push", move |state, (session, batch): (Session, LogBatch)| {
            to_contract(state.table().get_mut(&session)?.push(&batch), refusal)
        })
    }

    fn function<P, R>(
        &mut self,
        name: &str,
        function: impl Fn(&mut State, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: ComponentType + Lower + 'static,
    {
        let has_deadline = self.has_deadline;
        self.interface.func_wrap(name, move |mut store, parameters: P| {
            let state = store.data_mut();
            let is_multi_threaded = || Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
            let returned = if has_deadline && is_multi_threaded() {
                block_in_place(|| function(state, parameters))
            } else {
                function(state, parameters)
            };
            Ok((returned?,))
        })
    }

    fn resource<R: Send + 'static>(&mut self, name: &str) -> wasmtime::Result<()> {
        self.interface.resource(name, ResourceType::host::<R>(), |mut store, handle| {
            store.data_mut().table().delete(Resource::<R>::new_own(handle))?;
            Ok(())
        })
    }
}

/// The configuration by which a function asks an encoder for the lost values, and the path of the answer: see
/// `wit/deps/losses`. The stage itself reports them to this host.
const TAKE_LOSSES: &str = r#"{"logship:take-losses":true}"#;
const TAKE_LOSSES_PATH: &str = "logship:take-losses";

/// Returns lost values as JSON.
fn losses_to_json(losses: &[Loss]) -> String {
    let to_json = |loss: &Loss| {
        let Loss { column, count, example, reason } = loss;
        json!({ "column": column, "count": count, "example": example, "reason": reason })
    };
    Value::from(losses.iter().map(to_json).collect::<Vec<_>>()).to_string()
}

/// Converts a stage's answer to the contract's types. Rejections become contract errors. Any other error ends
/// the function's call.
fn to_contract<T, E>(
    answered: Result<T, StageError>,
    refusal: impl Fn(StageError) -> Result<E, StageError>,
) -> wasmtime::Result<Result<T, E>> {
    match answered {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(refusal(error)?)),
    }
}

/// Stores an opened object or session until the function finishes or drops it.
fn store_resource<T: Send + 'static, E>(
    table: &mut ResourceTable,
    opened: Result<T, E>,
) -> wasmtime::Result<Result<Resource<T>, E>> {
    Ok(match opened {
        Ok(opened) => Ok(table.push(opened)?),
        Err(error) => Err(error),
    })
}
