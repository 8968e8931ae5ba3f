//! The stages of events: a pool of instances, with their circuit breaker.

use std::sync::{Arc, Mutex, PoisonError};

use logship_config::rule::StageSpec;
use logship_registry::Registry;
use logship_runtime::stage::{FormatterStage, Identity, StageError, Transport};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::dead_letter::DeadLetter;
use crate::engine::CircuitBreaker;
use crate::engine::stream::on_thread;
use crate::events::chunk::Chunk;
use crate::events::format::{Formatted, Formatting};
use crate::pipeline::transforms::{TransformError, Transforms};

/// A pool of stage instances, at most one per core.
#[derive(Debug)]
pub(crate) struct Formatters {
    transforms: Transforms,
    stage: Arc<FormatterStage>,
    /// The stage's configuration.
    config: Arc<str>,
    idle: Mutex<Vec<Formatting>>,
    busy: Semaphore,
    breaker: CircuitBreaker,
}

impl Formatters {
    /// Opens stages and checks their configurations.
    pub(crate) fn new(
        registry: &Registry,
        transport: Transport,
        transforms: &[StageSpec],
        stage: &str,
        mut config: Map<String, Value>,
        failure_threshold: Option<usize>,
    ) -> Result<Self, DeliveryError> {
        let transforms = Transforms::new(registry, transforms)?;
        let stage = registry.formatter(stage)?;
        let found = stage.description().transport;
        if found != transport {
            let stage = stage.identity().name().to_owned();
            return Err(DeliveryError::Transport {
                stage,
                found: transport_name(found),
                wanted: transport_name(transport),
            });
        }
        set_default_hostname(&stage, &mut config);
        let config: Arc<str> = Value::from(config).to_string().into();
        stage.open(&config)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            transforms,
            stage,
            config,
            idle: Mutex::default(),
            busy: Semaphore::new(cores),
            breaker: CircuitBreaker::new(failure_threshold),
        })
    }

    /// The transformers before the formatter.
    pub(crate) fn transforms(&self) -> &Transforms {
        &self.transforms
    }

    /// The identity of the formatter.
    pub(crate) fn identity(&self) -> &Identity {
        self.stage.identity()
    }

    /// Creates a formatting session with these stages.
    pub(crate) fn formatting(&self) -> Formatting {
        Formatting::new(self.transforms.clone(), Arc::clone(&self.stage), Arc::clone(&self.config))
    }

    /// The circuit breaker of the stages.
    pub(crate) fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// The message for a failure.
    pub(super) fn failure_message(&self, error: &StageError) -> String {
        if !self.breaker.is_open() {
            return error.to_string();
        }
        let stage = error.stage().unwrap_or(self.identity());
        let failed = format!("{} times in a row", self.breaker.failures());
        CircuitBreaker::describe(stage, &failed, &error.to_string())
    }

    /// Formats a chunk. One shard at a time retries failing stages.
    pub(super) async fn format(
        &self,
        chunk: &Arc<Chunk>,
    ) -> Result<(Formatted, Vec<DeadLetter>), StageError> {
        let _permit = self.busy.acquire().await;
        let _probe = self.breaker.probe().await;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let before = idle().pop();
        let mut formatting = before.unwrap_or_else(|| self.formatting());
        let chunk = Arc::clone(chunk);
        let work = move || {
            let result = formatting.format(&chunk);
            (result, formatting)
        };
        let (result, formatting) = on_thread(work).await;
        idle().push(formatting);
        self.breaker.record(result.is_ok());
        result
    }
}

/// An error in setting up a delivery.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The formatter.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A transformer.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The formatter is for another transport.
    #[error("stage {stage} formats for {found}, and the receiver takes {wanted}")]
    Transport {
        /// The stage's name.
        stage: String,
        /// The transport of the stage.
        found: &'static str,
        /// The transport of the receiver.
        wanted: &'static str,
    },
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Hec => "HEC",
        Transport::Syslog => "syslog",
    }
}

/// Sets a syslog stage's `hostname` to this host's name, unless it is configured. Stages can't look it up.
fn set_default_hostname(stage: &FormatterStage, config: &mut Map<String, Value>) {
    let schema: Value = serde_json::from_str(&stage.description().config_schema).unwrap_or_default();
    let is_set = config.keys().any(|field| field == "hostname");
    if stage.description().transport == Transport::Syslog
        && !schema["properties"]["hostname"].is_null()
        && !is_set
    {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        config.insert("hostname".into(), name.into());
    }
}
