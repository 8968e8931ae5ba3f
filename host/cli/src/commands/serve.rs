use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::log::LogOptions;
use super::signals::EndSignals;
use super::{EngineOptions, Failure, settings, tokio_runtime};
use crate::print;
use logship_config::service::{self, Config, Tls};
use logship_listener::address;
use logship_runtime::engine::DeadlineMode;
use logship_server::Service;
use logship_server::server::Server;

/// Runs the Logstore service.
///
/// The service accepts logs over the API of Log Service and as NDJSON, stores them in one directory, serves them to
/// consumers, and ships them by rules (logship rule). The first start creates the directory and an admin access key
/// (keys.toml).
#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// Reads settings from this TOML file. Command-line options override it. docs/settings.md lists all settings.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
    config: Option<PathBuf>,
    /// Stores all data in this directory [default: logship-data]
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA")]
    data: Option<PathBuf>,
    /// Listens on this address [default: 127.0.0.1:7450]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LOGSHIP_LISTEN")]
    listen: Option<SocketAddr>,
    /// Limits how long logs wait for an object to fill; overrides longer times of rules [default: 900]
    #[arg(long, value_name = "SECONDS", env = "LOGSHIP_LONGEST_WAIT")]
    longest_wait: Option<u64>,
    /// Enables TLS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", env = "LOGSHIP_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", env = "LOGSHIP_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    log: LogOptions,
}

impl ServeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        self.log.init()?;
        let runtime = tokio_runtime()?;
        // First, so that a signal during the start ends the service.
        let mut signals = runtime.block_on(async { EndSignals::catch() })?;
        let mut config = self.config()?;
        config.check()?;
        warn_about_exposure(&config);
        config.limits.connections = raise_file_limit(config.limits.connections);
        let deadline_mode = match config.stages.deadline_mode {
            service::DeadlineMode::Epoch => DeadlineMode::Epoch,
            service::DeadlineMode::Signal => DeadlineMode::Signal,
        };
        let engine = engine.engine_with(config.shipping.stage_memory(), deadline_mode)?;
        runtime.block_on(async {
            let data = config.data.clone();
            let server = Server::bind(Service::open(config, engine)?).await?;
            tracing::info!(version = env!("CARGO_PKG_VERSION"), url = server.url()?, data = %data.display(), "serving");
            server
                .run(async { _ = signals.next().await })
                .await;
            tracing::info!("stopped; every acknowledged request is on disk");
            print::flush_log();
            // An upload in progress must not keep the process alive. Its task resumes at the next start.
            std::process::exit(0)
        })
    }

    fn config(&self) -> Result<Config, Failure> {
        let mut config = settings::read(self.config.as_deref())?;
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

/// Warns if secrets and logs would cross the network unencrypted.
fn warn_about_exposure(config: &Config) {
    if config.tls.is_none() && !address::is_local(config.listen.ip()) {
        tracing::warn!(
            listen = %config.listen,
            "other machines reach the service without TLS: logs and the secrets of keys can be read on the network; set --tls-certificate and --tls-key, or listen on 127.0.0.1 behind a proxy with TLS"
        );
    }
}

/// The open files that are not connections, mostly of the log store.
const NON_CONNECTION_FILES: u64 = 256;

/// Raises the soft limit of open files, usually 1024, because each connection needs one. Returns the number of
/// connections that fit in.
fn raise_file_limit(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections as u64 + NON_CONNECTION_FILES;
    let Some(current) = limit.current.filter(|&current| current < needed) else { return connections };
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let files = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
        Ok(()) => raised,
        Err(error) => {
            tracing::warn!(%error, "can't raise the limit of open files");
            current
        }
    };
    let fitting = files.saturating_sub(NON_CONNECTION_FILES).max(files / 2).max(1);
    let fitting = usize::try_from(fitting).map_or(connections, |fitting| fitting.min(connections));
    if fitting < connections {
        tracing::warn!(
            files,
            connections = fitting,
            "the limit of open files is too low for limits.connections, which is lowered: raise the limit"
        );
    }
    fitting
}
