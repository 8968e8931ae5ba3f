//! A consumer program: the shared parts of its members.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::dead_letter::DeadLetters;
use super::delivery::{Delivery, DeliveryError, Formatters, Sent};
use super::member::{Member, Membership};
use super::receiver::Receiver;
use crate::bucket::{Bucket, StoreKind};
use crate::client::Client;
use crate::sink::{ObjectSink, SinkError};
use crate::destination::DestinationConfig;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::registry::Registry;
use crate::rule::StageSpec;
use crate::service::config::Config;
use crate::service::metrics;
use crate::stage::Transport;

/// An error in starting a consumer.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The delivery to the receiver.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The dead letter store.
    #[error("dead letters: {0}")]
    DeadLetters(#[from] SinkError),
    /// The metrics endpoint.
    #[error("can't serve metrics at {address}: {problem}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The cause.
        problem: String,
    },
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
        let config = destinations.get(name).ok_or_else(|| {
            SinkError::Settings(format!("the settings define no destination {name:?}"))
        })?;
        let open = |kind, remote| {
            let spool = settings.shipping.spool.clone().unwrap_or_else(std::env::temp_dir);
            Ok::<Box<dyn ObjectSink>, SinkError>(Box::new(Bucket::open(
                kind,
                remote,
                bucket,
                "",
                &spool,
                Handle::current(),
            )?))
        };
        let sink: Box<dyn ObjectSink> = match config {
            DestinationConfig::Directory { path } => {
                Box::new(Directory::new(path.join(bucket)))
            }
            DestinationConfig::S3(remote) => open(StoreKind::S3, remote)?,
            DestinationConfig::Oss(remote) => open(StoreKind::Oss, remote)?,
            DestinationConfig::Function(_) => {
                let problem = format!(
                    "{name:?} is a function and can't store dead letters: name a bucket or a directory"
                );
                return Err(SinkError::Settings(problem));
            }
        };
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
        receiver: Receiver,
        transport: Transport,
        transforms: &[StageSpec],
        stage: &str,
        config: Map<String, Value>,
        dead_letters: DeadLetters,
    ) -> Result<Self, ConsumerError> {
        let formatters = Formatters::new(registry, transport, transforms, stage, config, None)?;
        Ok(Self { delivery: Delivery::new(Arc::new(receiver), formatters, Arc::new(dead_letters)) })
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

/// Largest number of concurrent connections to the metrics endpoint.
const MAX_CONNECTIONS: usize = 64;

/// Serves metrics at `/metrics` until the process ends. To be called before `engine` loads stages.
///
/// # Errors
/// When the address can't be listened to.
pub async fn show_metrics(address: SocketAddr, engine: Engine) -> Result<(), ConsumerError> {
    let failed = |problem: String| ConsumerError::Metrics { address, problem };
    let handle = metrics::install().map_err(|error| failed(error.to_string()))?;
    let listener = TcpListener::bind(address).await.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(metrics::run_upkeep(handle.clone()));
    tokio::spawn(async move {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Usually out of file descriptors: other connections have to end first.
                    tracing::warn!(%error, "can't accept a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (handle, engine) = (handle.clone(), engine.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (found, text) = match request.uri().path() {
                    "/metrics" => {
                        engine.export_stage_metrics();
                        (StatusCode::OK, handle.render())
                    }
                    "/healthz" => (StatusCode::OK, "ok\n".into()),
                    _ => (StatusCode::NOT_FOUND, "not found: see /metrics or /healthz\n".into()),
                };
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = found;
                async { Ok::<_, std::convert::Infallible>(response) }
            });
            // The timer closes idle connections.
            let mut http = hyper::server::conn::http1::Builder::new();
            let served = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move {
                _ = served.await;
                drop(permit);
            });
        }
    });
    Ok(())
}
