use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::log::LogOptions;
use super::{EngineOptions, Failure};
use crate::service::Service;
use crate::service::config::{Config, Tls};
use crate::service::server::Server;

/// Runs the Logstore service.
///
/// It takes logs over the API of Log Service and as JSON, keeps them in one directory, serves them to consumers, and
/// ships them by rules (logship rule). The first start makes the directory, and an access key for everything (in its keys.toml).
#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// A file of settings (TOML); the options below come before it. docs/service.md names them all.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory [default: logship-data]
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA")]
    data: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7450]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LOGSHIP_LISTEN")]
    listen: Option<SocketAddr>,
    /// Logs wait no longer for an object to fill, whatever their rule says [default: 900]
    #[arg(long, value_name = "SECONDS", env = "LOGSHIP_LONGEST_WAIT")]
    longest_wait: Option<u64>,
    /// Certificate for TLS (PEM), with those of its issuers.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", env = "LOGSHIP_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    log: LogOptions,
}

impl ServeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        self.log.begin()?;
        let config = self.config()?;
        config.check()?;
        raise_file_limit(config.limits.connections);
        let engine = engine.engine_within(config.shipping.stage_memory())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let data = config.data.clone();
            // Before anything is made: a service that is told to end while it starts ends.
            let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let server = Server::bind(Service::open(config, engine)?).await?;
            tracing::info!(version = env!("CARGO_PKG_VERSION"), url = server.url()?, data = %data.display(), "serving");
            server
                .run(async {
                    tokio::select! {
                        _ = term.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                })
                .await;
            tracing::info!("ended; everything that was answered is on disk");
            // An object that is still being sent must not hold the process: its task goes on with the next start.
            std::process::exit(0)
        })
    }

    fn config(&self) -> Result<Config, Failure> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(seconds) = self.longest_wait {
            config.shipping.longest_wait_seconds = seconds;
        }
        if let (Some(certificate), Some(key)) = (self.tls_certificate.clone(), self.tls_key.clone()) {
            config.tls = Some(Tls { certificate, key });
        }
        Ok(config)
    }
}

/// Files besides those of connections: the store's, mostly.
const OTHER_FILES: u64 = 256;

/// Each connection takes a file, and as a rule a process may have no more than 1024 unless it asks.
fn raise_file_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections as u64 + OTHER_FILES;
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
        tracing::warn!(%error, "the limit of open files stays what it is");
    } else if raised < needed {
        tracing::warn!(
            raised,
            needed,
            "the limit of open files is low for limits.connections: raise it, or lower these"
        );
    }
}
