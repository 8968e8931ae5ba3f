//! Stages that serve the imports of functions.
//!
//! The host stands between a function and its stages: what a call begins (an object, a session, a key) has an instance
//! of its stage to itself, as everywhere in the host, and what is passed is copied from one memory to the other at once.
//!
//! Composed of the same files, as for Spin, one component gives the same bytes, and takes longer: wasmtime's adapters
//! between components copy a list element by element, in which a call with 4 MB spent more than a quarter of its time;
//! and all code of it has to be watched for its time, while here functions and stages that come with logship are not.
//! Nor is the function compiled again for another stage.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use logship_function::application::Serve;
use logship_function::compose::Part;
use logship_function::runtime::State;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceTable,
    ResourceType,
};

use crate::batch::LogBatch;
use crate::registry::{Registry, digest};
use crate::stage::{
    CompressedObject, CompressorStage, EncodedObject, EncoderStage, FormatterStage, FormattingSession, Kind,
    RendererStage, Request, Stage, StageError,
};

/// The stages of functions: each import of one is served by a component that the registry makes ready.
#[derive(Debug)]
pub struct Stages {
    registry: Registry,
}

impl Stages {
    /// Stages that run in the engine of the registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

impl Serve for Stages {
    fn serves(&self, import: &str) -> bool {
        kind(import).is_some()
    }

    fn link(&self, linker: &mut Linker<State>, import: &str, part: &Part) -> Result<(), String> {
        let kind = kind(import).ok_or("no stage has this interface")?;
        let origin = part.path.to_string_lossy();
        let stage = self.registry.serving(kind, &origin, &part.bytes).map_err(|error| {
            // Who asks says which component it is about.
            let problem = error.to_string();
            problem.strip_prefix(&format!("{origin}: ")).map(str::to_owned).unwrap_or(problem)
        })?;
        let interface = linker.instance(import).map_err(|error| error.to_string())?;
        let mut imports = Imports { interface, is_watched: !Registry::has_built_in(&part.bytes) };
        let linked = match stage {
            Stage::Renderer(stage) => imports.renderer(&stage),
            Stage::Encoder(stage) => imports.encoder(&stage),
            Stage::Compressor(stage) => imports.compressor(&stage),
            Stage::Formatter(stage) => imports.formatter(&stage),
            Stage::Transformer(_) | Stage::Pipeline(_) => return Err(format!("a {kind} has no place here")),
        };
        linked.map_err(|error| format!("{error:#}"))
    }

    fn trusts(&self, component: &[u8]) -> bool {
        FUNCTIONS.contains(digest(component).as_str())
    }
}

/// The functions that come with logship, by their digests.
static FUNCTIONS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include!(concat!(env!("OUT_DIR"), "/functions.rs")).iter().copied().collect());

/// The kind of stage that serves an import.
fn kind(import: &str) -> Option<Kind> {
    let served =
        |kind: &Kind| matches!(kind, Kind::Renderer | Kind::Encoder | Kind::Compressor | Kind::Formatter);
    Kind::of_interface(import).filter(served)
}

/// The functions of an interface that a component imports.
struct Imports<'a> {
    interface: LinkerInstance<'a, State>,
    /// Whether the stage may take its time, up to its deadline: then other calls get another thread meanwhile.
    is_watched: bool,
}

impl Imports<'_> {
    fn renderer(&mut self, stage: &Arc<RendererStage>) -> wasmtime::Result<()> {
        use crate::bindings::renderer::exports::logship::object_path::renderer::{ConfigProblem, Error};
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
            answer(stage.render(&config, &request), refusal)
        })
    }

    fn encoder(&mut self, stage: &Arc<EncoderStage>) -> wasmtime::Result<()> {
        use crate::bindings::encoder::exports::logship::encode::encoder::{ConfigProblem, Error, Rejection};
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
        self.function("[static]object.open", move |table, (config,): (String,)| {
            keep(table, answer(stage.open(&config), refusal)?)
        })?;
        self.function("[method]object.push", move |table, (object, batch): (Object, LogBatch)| {
            answer(table.get_mut(&object)?.push(&batch), refusal)
        })?;
        self.function("[method]object.size", |table, (object,): (Object,)| {
            Ok(table.get_mut(&object)?.size()?)
        })?;
        self.function("[static]object.finish", move |table, (object,): (Object,)| {
            answer(table.delete(object)?.finish(), refusal)
        })
    }

    fn compressor(&mut self, stage: &Arc<CompressorStage>) -> wasmtime::Result<()> {
        use crate::bindings::compressor::exports::logship::compress::compressor::{ConfigProblem, Error};
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
        self.function("[static]object.open", move |table, (config,): (String,)| {
            keep(table, answer(stage.open(&config), refusal)?)
        })?;
        self.function("[method]object.push", move |table, (object, bytes): (Object, Vec<u8>)| {
            answer(table.get_mut(&object)?.push(&bytes), refusal)
        })?;
        self.function("[static]object.finish", move |table, (object,): (Object,)| {
            answer(table.delete(object)?.finish(), refusal)
        })
    }

    fn formatter(&mut self, stage: &Arc<FormatterStage>) -> wasmtime::Result<()> {
        use crate::bindings::formatter::exports::logship::siem::formatter::{
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
        self.function("[static]session.open", move |table, (config,): (String,)| {
            keep(table, answer(stage.open(&config), refusal)?)
        })?;
        self.function("[method]session.push", move |table, (session, batch): (Session, LogBatch)| {
            answer(table.get_mut(&session)?.push(&batch), refusal)
        })
    }

    fn function<P, R>(
        &mut self,
        name: &str,
        function: impl Fn(&mut ResourceTable, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: ComponentType + Lower + 'static,
    {
        let is_watched = self.is_watched;
        self.interface.func_wrap(name, move |mut store, parameters: P| {
            let table = store.data_mut().table();
            let has_others = || Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
            let returned = if is_watched && has_others() {
                block_in_place(|| function(table, parameters))
            } else {
                function(table, parameters)
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

/// What a stage answers: what it refuses, in the words of the contract; anything else ends the call of the function.
fn answer<T, E>(
    answered: Result<T, StageError>,
    refusal: impl Fn(StageError) -> Result<E, StageError>,
) -> wasmtime::Result<Result<T, E>> {
    match answered {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(refusal(error)?)),
    }
}

/// Keeps what was begun until the function ends it or lets it go.
fn keep<T: Send + 'static, E>(
    table: &mut ResourceTable,
    begun: Result<T, E>,
) -> wasmtime::Result<Result<Resource<T>, E>> {
    Ok(match begun {
        Ok(begun) => Ok(table.push(begun)?),
        Err(refused) => Err(refused),
    })
}
