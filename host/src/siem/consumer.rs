//! A program that consumes logstores: what its members have in common.

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
use super::feed::{Formatters, Outlet, OutletError, Sent};
use super::member::{Member, Membership};
use super::receiver::Receiver;
use crate::bucket::{Bucket, Flavour};
use crate::client::Client;
use crate::destination::{Destination, DestinationConfig, DestinationError};
use crate::directory::Directory;
use crate::engine::Engine;
use crate::registry::Registry;
use crate::rule::Choice;
use crate::service::config::Config;
use crate::service::metrics;
use crate::stage::Transport;

/// Why nothing can be consumed.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// What brings logs to the receiver.
    #[error(transparent)]
    Outlet(#[from] OutletError),
    /// Where dead letters are to be kept.
    #[error("dead letters: {0}")]
    DeadLetters(#[from] DestinationError),
    /// The metrics.
    #[error("can't show metrics at {address}: {problem}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        problem: String,
    },
}

/// Where dead letters are kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A bucket of a destination, by their names.
    Bucket(String, String, String),
}

impl Place {
    /// The folder that was asked for, or what settings say, or the folder of this name.
    pub fn of(asked: Option<&Path>, settings: &Config, default: impl Into<PathBuf>) -> Self {
        let letters = &settings.dead_letters;
        match (asked, &letters.destination, &letters.path) {
            (Some(folder), ..) => Self::Folder(folder.to_owned()),
            (None, Some(destination), _) => {
                Self::Bucket(destination.clone(), letters.bucket.clone(), letters.prefix.clone())
            }
            (None, None, path) => Self::Folder(path.clone().unwrap_or_else(|| default.into())),
        }
    }

    /// What is kept there. `settings` name the destinations. To be called within a runtime.
    ///
    /// # Errors
    /// When there is no such destination, or its settings are wrong.
    pub fn open(&self, settings: &Config) -> Result<DeadLetters, DestinationError> {
        let (name, bucket, prefix) = match self {
            Self::Folder(folder) => {
                return Ok(DeadLetters::new(Destination::Directory(Directory::new(folder)), ""));
            }
            Self::Bucket(name, bucket, prefix) => (name, bucket, prefix),
        };
        let destinations = settings.destinations();
        let config = destinations.get(name).ok_or_else(|| {
            DestinationError::Settings(format!("the settings name no destination {name:?}"))
        })?;
        let open = |flavour, remote| {
            let spool = settings.shipping.spool.clone().unwrap_or_else(std::env::temp_dir);
            Ok::<_, DestinationError>(Destination::Bucket(Bucket::open(
                flavour,
                remote,
                bucket,
                "",
                &spool,
                Handle::current(),
            )?))
        };
        let destination = match config {
            DestinationConfig::Directory { path } => {
                Destination::Directory(Directory::new(path.join(bucket)))
            }
            DestinationConfig::S3(remote) => open(Flavour::S3, remote)?,
            DestinationConfig::Oss(remote) => open(Flavour::Oss, remote)?,
            DestinationConfig::Function(_) => {
                let problem = format!("{name:?} is a function, and no place for dead letters");
                return Err(DestinationError::Settings(problem));
            }
        };
        Ok(DeadLetters::new(destination, prefix))
    }
}

/// What the members of a program have in common: where logs go, and the room for those on their way.
#[derive(Debug)]
pub struct Consumer {
    outlet: Outlet,
}

impl Consumer {
    /// One that sends to a receiver what transformers and a stage make, whose configurations it checks.
    ///
    /// # Errors
    /// When there is no such stage, it refuses its configuration, or formats for others.
    pub fn new(
        registry: &Registry,
        receiver: Receiver,
        transport: Transport,
        transforms: &[Choice],
        stage: &str,
        config: Map<String, Value>,
        dead_letters: DeadLetters,
    ) -> Result<Self, ConsumerError> {
        let formatters = Formatters::new(registry, transport, transforms, stage, config, None)?;
        Ok(Self { outlet: Outlet::new(Arc::new(receiver), formatters, Arc::new(dead_letters)) })
    }

    /// With room for so many bytes of logs on their way.
    #[must_use]
    pub fn within(self, bytes: usize) -> Self {
        Self { outlet: self.outlet.within(bytes) }
    }

    /// A member of a group of a project's logstore.
    pub fn member(&self, client: Client, project: &str, membership: Membership) -> Member {
        Member::new(client, project, membership, self.outlet.clone())
    }

    /// What its members have sent so far.
    pub fn sent(&self) -> Sent {
        self.outlet.total()
    }
}

/// Connections that ask for metrics at one time.
const MOST_ASKERS: usize = 64;

/// Counts, and shows at `/metrics` what was counted, until the process ends. Stages run in `engine`: none of them is
/// loaded yet.
///
/// # Errors
/// When the address can't be listened to.
pub async fn show_metrics(address: SocketAddr, engine: Engine) -> Result<(), ConsumerError> {
    let failed = |problem: String| ConsumerError::Metrics { address, problem };
    let handle = metrics::install().map_err(|error| failed(error.to_string()))?;
    let listener = TcpListener::bind(address).await.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(metrics::keep_up(handle.clone()));
    tokio::spawn(async move {
        let connections = Arc::new(Semaphore::new(MOST_ASKERS));
        loop {
            let place = Arc::clone(&connections).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, as a rule: others have to end first.
                    tracing::warn!(%error, "can't take a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (handle, engine) = (handle.clone(), engine.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (found, text) = match request.uri().path() {
                    "/metrics" => {
                        engine.export_tallies();
                        (StatusCode::OK, handle.render())
                    }
                    "/healthz" => (StatusCode::OK, "ok\n".into()),
                    _ => (StatusCode::NOT_FOUND, "there is /metrics\n".into()),
                };
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = found;
                async { Ok::<_, std::convert::Infallible>(response) }
            });
            // With a timer, who says nothing is let go.
            let mut http = hyper::server::conn::http1::Builder::new();
            let served = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move {
                _ = served.await;
                drop(place);
            });
        }
    });
    Ok(())
}
