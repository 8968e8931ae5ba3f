//! Connections: accept, TLS, graceful shutdown.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server::conn::http1};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use logship_listener::{Connection, DeadlineStream, accept};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::service::Service;
use crate::tls::{self, Acceptor, TlsError};
use crate::{audit, dispatch, key_audit, metrics};

/// The longest wait for requests in progress at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// The time that the service keeps serving open connections at shutdown. Each reply closes its connection, so busy
/// clients leave by themselves. A client whose connection is closed just before a request would not retry.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The interval at which the usage of quotas is saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// TCP keep-alive, which detects an unreachable peer within two minutes.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The read buffer of a connection, in bytes. A body of some KB arrives in one read.
const READ_BUFFER: usize = 64 << 10;

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Can't listen at the address.
    #[error("can't listen at {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A service with a listening socket.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    listener: TcpListener,
    tls: Option<Acceptor>,
}

impl Server {
    /// Listens at the configured address.
    pub async fn bind(service: Service) -> Result<Self, ServerError> {
        let tls = service.config.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = service.config.listen;
        let failed = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self { service: Arc::new(service), listener, tls })
    }

    /// The URL of the listening socket.
    pub fn url(&self) -> Result<String, io::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// Serves connections until `end`, then finishes the requests in progress and closes the store.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let metrics_upkeep = tokio::spawn(metrics::run_upkeep(self.service.metrics.clone()));
        audit::record_start(&self.service).await;
        key_audit::record_changes(&self.service).await;
        let audit = tokio::spawn(watch_for_audit(Arc::clone(&self.service)));
        // Import components that were added while the service was down, before the first task.
        let watcher = Arc::clone(&self.service.folder_watcher);
        if let Err(error) = tokio::task::spawn_blocking(move || watcher.scan(true)).await {
            tracing::error!(%error, "can't scan the folder of stages");
        }
        let stage_watch = tokio::spawn(watch_stages(Arc::clone(&self.service)));
        let quota_upkeep = tokio::spawn(save_quotas(Arc::clone(&self.service)));
        let delivery = self.service.delivery.start();
        let jobs = self.service.jobs.start();
        let graceful = GracefulShutdown::new();
        self.accept_until(end, &graceful).await;
        self.service.ready.send_replace(false);
        delivery.stop_streams();
        drop(self.listener);
        tracing::info!("shutting down: finishing requests in progress");
        tokio::time::sleep(DRAIN_TIME).await;
        let ended = async {
            tokio::select! {
                () = graceful.shutdown() => {}
                // Don't wait for connections with a partial request.
                () = self.service.wait_until_idle() => {}
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some requests took too long and were aborted");
        }
        jobs.end().await;
        delivery.end().await;
        stage_watch.abort();
        audit.abort();
        metrics_upkeep.abort();
        quota_upkeep.abort();
        let service = self.service;
        // Closing writes the last commits and the write-ahead log.
        let close = move || {
            service.quotas.save((service.store_clock)());
            service.store.close()
        };
        let closed = tokio::task::spawn_blocking(close).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store could not be closed");
        }
    }

    /// Accepts connections until `end`.
    async fn accept_until(&self, end: impl Future<Output = ()>, graceful: &GracefulShutdown) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                (stream, connection) = accept(&self.listener, &self.service.connections) => {
                    self.serve(stream, connection, graceful.watcher());
                }
            }
        }
    }

    /// Serves a connection in a task of its own.
    fn serve(&self, stream: TcpStream, connection: Arc<Connection>, watcher: Watcher) {
        let peer = connection.peer();
        // Small replies are one write, so Nagle's algorithm would only delay the rest of large ones.
        if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
            tracing::debug!(%peer, %error, "can't set socket options");
        }
        let (service, tls) = (Arc::clone(&self.service), self.tls.as_ref().map(Acceptor::get));
        tokio::spawn(async move {
            let serving = async {
                let Some(tls) = tls else {
                    return serve(&service, stream, &connection, watcher).await;
                };
                let stall = service.config.limits.stall();
                match tokio::time::timeout(stall, tls.accept(stream)).await {
                    Ok(Ok(stream)) => serve(&service, stream, &connection, watcher).await,
                    Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::info!(%peer, "TLS handshake timed out"),
                }
            };
            if connection.run(serving).await.is_none() {
                tracing::debug!(%peer, "closed a connection for another one");
            }
        });
    }
}

/// The interval at which changes of keys are looked for.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);

/// Records what happens outside of requests in the audit log.
async fn watch_for_audit(service: Arc<Service>) {
    loop {
        tokio::time::sleep(AUDIT_INTERVAL).await;
        key_audit::record_changes(&service).await;
        audit::summarize_failures(&service).await;
    }
}

/// Saves the usage of quotas periodically. A crash returns what was used since.
async fn save_quotas(service: Arc<Service>) {
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        let service = Arc::clone(&service);
        let save = move || service.quotas.save((service.store_clock)());
        if let Err(error) = tokio::task::spawn_blocking(save).await {
            tracing::error!(%error, "can't save the usage of quotas");
        }
    }
}

/// Scans the folder of components periodically.
async fn watch_stages(service: Arc<Service>) {
    let interval = Duration::from_secs(service.config.stages.watch_seconds);
    if interval.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(interval).await;
        let watcher = Arc::clone(&service.folder_watcher);
        if let Err(error) = tokio::task::spawn_blocking(move || watcher.scan(false)).await {
            tracing::error!(%error, "can't scan the folder of stages");
        }
    }
}

async fn serve(
    service: &Arc<Service>,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    connection: &Arc<Connection>,
    watcher: Watcher,
) {
    let stream = DeadlineStream::new(Box::pin(stream), Arc::clone(connection));
    let mut http = http1::Builder::new();
    http.max_buf_size(READ_BUFFER);
    let (answering, answered) = (Arc::clone(service), Arc::clone(connection));
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, connection) = (Arc::clone(&answering), Arc::clone(&answered));
        async move {
            connection.requests().begin();
            let response = dispatch::answer(service, request, &connection).await;
            connection.requests().end();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http.serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(peer = %connection.peer(), %error, "a connection ended");
    }
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let probe = TcpKeepalive::new().with_time(KEEP_ALIVE_TIME).with_interval(KEEP_ALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&probe)
}
