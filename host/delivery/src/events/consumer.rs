//! A consumer program: the shared parts of its members.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::dead_letter::DeadLetters;
use crate::events::delivery::{Delivery, Sent};
use crate::events::formatters::{DeliveryError, Formatters};
use crate::events::member::{Member, Membership};
use logship_client::Client;
use logship_config::destination::DestinationConfig;
use logship_config::rule::StageSpec;
use logship_config::service::Config;
use logship_registry::Registry;
use logship_runtime::stage::Transport;
use logship_sink::directory::Directory;
use logship_sink::error::SinkError;
use logship_sink::event::EventSink;
use logship_sink::object::BucketLocation;
use logship_sink::open;

/// An error in starting a consumer.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The delivery to the receiver.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The dead letter store.
    #[error("dead letters: {0}")]
    DeadLetters(#[from] SinkError),
}

/// The location of dead letters.
#[derive(Debug, Clone)]
pub enum DeadLetterLocation {
    /// A folder.
    Folder(PathBuf),
    /// A destination name, a bucket, and a key prefix.
    Bucket(String, String, String),
}

impl DeadLetterLocation {
    /// The requested folder, or else the location in the settings, or else the default folder.
    pub fn resolve(requested: Option<&Path>, settings: &Config, default: impl Into<PathBuf>) -> Self {
        let letters = &settings.dead_letters;
        match (requested, &letters.destination, &letters.path) {
            (Some(folder), ..) => Self::Folder(folder.to_owned()),
            (None, Some(destination), _) => {
                Self::Bucket(destination.clone(), letters.bucket.clone(), letters.prefix.clone())
            }
            (None, None, path) => Self::Folder(path.clone().unwrap_or_else(|| default.into())),
        }
    }

    /// Opens the dead letters. `settings` define the destinations. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// When the destination does not exist, or its settings are wrong.
    pub fn open(&self, settings: &Config) -> Result<DeadLetters, SinkError> {
        let (name, bucket, prefix) = match self {
            Self::Folder(folder) => {
                return Ok(DeadLetters::new(Box::new(Directory::new(folder)), ""));
            }
            Self::Bucket(name, bucket, prefix) => (name, bucket, prefix),
        };
        let destinations = settings.destinations();
        let config = destinations
            .get(name)
            .ok_or_else(|| SinkError::Settings(format!("the settings define no destination {name:?}")))?;
        if let DestinationConfig::Function(_) = config {
            let problem =
                format!("{name:?} is a function and can't store dead letters: name a bucket or a directory");
            return Err(SinkError::Settings(problem));
        }
        let spool = settings.shipping.spool.clone().unwrap_or_else(std::env::temp_dir);
        let runtime = Handle::current();
        let location = BucketLocation { bucket, role: "", spool: &spool, runtime, must_exist: false };
        let sink = open::object_sink(config, &location)?;
        Ok(DeadLetters::new(sink, prefix))
    }
}

/// The delivery and the memory budget that all members of a program share.
#[derive(Debug)]
pub struct Consumer {
    delivery: Delivery,
}

impl Consumer {
    /// Creates a consumer that sends to a receiver. Checks the configurations of the transformers and the formatter.
    ///
    /// # Errors
    /// When a stage does not exist, rejects its configuration, or formats for another transport.
    pub fn new(
        registry: &Registry,
        receiver: Box<dyn EventSink>,
        transport: Transport,
        transforms: &[StageSpec],
        stage: &str,
        config: Map<String, Value>,
        dead_letters: DeadLetters,
    ) -> Result<Self, ConsumerError> {
        let formatters = Formatters::new(registry, transport, transforms, stage, config, None)?;
        Ok(Self { delivery: Delivery::new(Arc::from(receiver), formatters, Arc::new(dead_letters)) })
    }

    /// Sets the memory budget for in-flight logs, in bytes.
    #[must_use]
    pub fn with_memory_budget(self, bytes: usize) -> Self {
        Self { delivery: self.delivery.with_memory_budget(bytes) }
    }

    /// Creates a member of a consumer group.
    pub fn member(&self, client: Client, project: &str, membership: Membership) -> Member {
        Member::new(client, project, membership, self.delivery.clone())
    }

    /// Totals of all members.
    pub fn sent(&self) -> Sent {
        self.delivery.total()
    }
}
