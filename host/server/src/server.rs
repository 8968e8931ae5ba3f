//! Connections: accept, TLS, graceful shutdown.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server::conn::http1};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::idle_timeout::{RequestState, TimeoutStream, Timeouts};
use crate::service::{CountGuard, Service};
use crate::tls::{self, Acceptor, TlsError};
use crate::{audit, dispatch, key_audit, metrics};

/// The longest wait for requests in progress at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// The time that the service keeps serving open connections at shutdown. Each reply closes its connection, so busy
/// clients leave by themselves. A client whose connection is closed just before a request would not retry.
const DRAIN_TIME: Duration = Duration::from_secs(1);

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
        let delivery = self.service.delivery.start();
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
        delivery.end().await;
        stage_watch.abort();
        audit.abort();
        metrics_upkeep.abort();
        let service = self.service;
        // Closing writes the last commits and the write-ahead log.
        let closed = tokio::task::spawn_blocking(move || service.store.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store could not be closed");
        }
    }

    /// Accepts connections until `end`.
    async fn accept_until(&self, end: impl Future<Output = ()>, graceful: &GracefulShutdown) {
        let mut end = pin!(end);
        let connections = Arc::new(Semaphore::new(self.service.config.limits.connections));
        loop {
            // At the connection limit, new clients wait in the system's accept queue.
            let permit = async { Arc::clone(&connections).acquire_owned().await };
            let accepted = tokio::select! {
                () = &mut end => return,
                accepted = async { (permit.await, self.listener.accept().await) } => accepted,
            };
            match accepted {
                (Ok(permit), Ok((stream, peer))) => {
                    self.accept(stream, peer.ip(), permit, graceful.watcher())
                }
                (_, Err(error)) => {
                    // Usually out of file descriptors: wait until other connections close.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (Err(_), _) => return,
            }
        }
    }

    fn accept(&self, stream: TcpStream, peer: IpAddr, permit: OwnedSemaphorePermit, watcher: Watcher) {
        // Small replies are one write, so Nagle's algorithm would only delay the rest of large ones.
        if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
            tracing::debug!(%peer, %error, "can't set socket options");
        }
        let (service, tls) = (Arc::clone(&self.service), self.tls.as_ref().map(Acceptor::get));
        tokio::spawn(async move {
            let _guard = CountGuard::begin(&service.connections);
            match tls {
                None => serve(&service, stream, peer, watcher).await,
                Some(tls) => {
                    let stall = service.config.limits.stall();
                    match tokio::time::timeout(stall, tls.accept(stream)).await {
                        Ok(Ok(stream)) => serve(&service, stream, peer, watcher).await,
                        Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
                        Err(_) => tracing::info!(%peer, "TLS handshake timed out"),
                    }
                }
            }
            drop(permit);
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
    peer: IpAddr,
    watcher: Watcher,
) {
    let limits = &service.config.limits;
    let requests = Arc::new(RequestState::default());
    let timeouts = Timeouts { stall: limits.stall(), idle: limits.idle() };
    let stream = TimeoutStream::new(Box::pin(stream), timeouts, Arc::clone(&requests));
    let mut http = http1::Builder::new();
    http.max_buf_size(READ_BUFFER);
    let answering = Arc::clone(service);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, requests) = (Arc::clone(&answering), Arc::clone(&requests));
        async move {
            requests.begin();
            let response = dispatch::answer(service, request, peer).await;
            requests.end();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let probe = TcpKeepalive::new().with_time(KEEP_ALIVE_TIME).with_interval(KEEP_ALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&probe)
}
