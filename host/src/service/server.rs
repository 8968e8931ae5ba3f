//! Connections: taking them, TLS, and ending in peace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config::Tls;
use super::metrics;
use super::patience::{Patience, Patient, Requests};
use super::{Counted, Service};
use crate::shipping::Threads;

/// How long requests that are on their way may take when the service ends.
const FAREWELL: Duration = Duration::from_secs(20);

/// How long the service goes on with the connections that it has when it is told to end. It says in each reply that
/// no more will be answered, so clients that are busy go away by themselves: one that was about to ask when its
/// connection was closed would not ask again.
const LEAVE: Duration = Duration::from_secs(1);

/// A peer whose machine is gone is noticed within two minutes.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Bytes that are read from a connection at once, so that a body of some KB is one piece.
const READ_BUFFER: usize = 64 << 10;

/// Why the server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be listened to.
    #[error("can't listen at {address}: {source}; --listen takes another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or its key can't be read.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The certificate can't be used.
    #[error("the certificate can't be used with that key: {0}")]
    Certificate(#[from] tokio_rustls::rustls::Error),
}

/// A service that listens.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    listener: TcpListener,
    tls: Option<Acceptor>,
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Acceptor")
    }
}

impl Server {
    /// Listens where the service's settings say.
    pub async fn bind(service: Service) -> Result<Self, ServerError> {
        let tls = service.config.tls.as_ref().map(acceptor).transpose()?;
        let address = service.config.listen;
        let failed = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self { service: Arc::new(service), listener, tls })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> Result<String, io::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// Takes connections until `end`; then lets requests come to their end, and closes the store.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        let upkeep = tokio::spawn(metrics::keep_up(self.service.metrics.clone()));
        let forgetting = tokio::spawn(Threads::keep_up(Arc::clone(&self.service.shipper)));
        // What was put into the folder while no service ran counts from the first task on.
        let folder = Arc::clone(&self.service.folder);
        if let Err(error) = tokio::task::spawn_blocking(move || folder.look(true)).await {
            tracing::error!(%error, "can't look for stages");
        }
        let watching = tokio::spawn(watch_stages(Arc::clone(&self.service)));
        let shipping = match self.service.shipper.start() {
            Ok(shipping) => Some(shipping),
            Err(error) => {
                tracing::error!(%error, "nothing is shipped");
                None
            }
        };
        let stop_siem = watch::Sender::new(false);
        let siem = tokio::spawn(Arc::clone(&self.service.siem).run(stop_siem.subscribe()));
        let connections = Arc::new(Semaphore::new(self.service.config.limits.connections));
        let graceful = GracefulShutdown::new();
        loop {
            // Who comes when all places are taken waits in the system's queue.
            let place = async { Arc::clone(&connections).acquire_owned().await };
            let accepted = tokio::select! {
                () = &mut end => break,
                accepted = async { (place.await, self.listener.accept().await) } => accepted,
            };
            match accepted {
                (Ok(place), Ok((stream, peer))) => self.take(stream, peer.ip(), place, graceful.watcher()),
                (_, Err(error)) => {
                    // Out of file descriptors, as a rule: others have to end first.
                    tracing::warn!(%error, "can't take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (Err(_), _) => break,
            }
        }
        self.service.ready.send_replace(false);
        stop_siem.send_replace(true);
        drop(self.listener);
        tracing::info!("ending: requests on their way are finished");
        tokio::time::sleep(LEAVE).await;
        let ended = async {
            tokio::select! {
                () = graceful.shutdown() => {}
                // Who has sent only half of a head is not waited for.
                () = self.service.quiet() => {}
            }
        };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("some requests took too long, and were cut off");
        }
        if let Err(error) = siem.await {
            tracing::error!(%error, "rules for SIEMs did not end");
        }
        watching.abort();
        upkeep.abort();
        forgetting.abort();
        let service = self.service;
        // The last commits, and the write-ahead log.
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(shipping) = shipping {
                shipping.end();
            }
            service.store.close();
        })
        .await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store did not close");
        }
    }

    fn take(&self, stream: TcpStream, peer: IpAddr, place: OwnedSemaphorePermit, watcher: Watcher) {
        // Heads and bodies are written at once, but replies of a few MB are not.
        if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
            tracing::debug!(%peer, %error, "a socket's options");
        }
        let (service, tls) = (Arc::clone(&self.service), self.tls.clone());
        tokio::spawn(async move {
            let _counted = Counted::begin(&service.connections);
            match tls {
                None => serve(&service, stream, peer, watcher).await,
                Some(Acceptor(tls)) => {
                    let stall = service.config.limits.stall();
                    match tokio::time::timeout(stall, tls.accept(stream)).await {
                        Ok(Ok(stream)) => serve(&service, stream, peer, watcher).await,
                        Ok(Err(error)) => tracing::info!(%peer, %error, "no TLS came about"),
                        Err(_) => tracing::info!(%peer, "a client took too long to begin TLS"),
                    }
                }
            }
            drop(place);
        });
    }
}

/// Takes components that are put into their folder, for ever.
async fn watch_stages(service: Arc<Service>) {
    let pause = Duration::from_secs(service.config.stages.watch_seconds);
    if pause.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(pause).await;
        let folder = Arc::clone(&service.folder);
        if let Err(error) = tokio::task::spawn_blocking(move || folder.look(false)).await {
            tracing::error!(%error, "can't look for stages");
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
    let requests = Arc::new(Requests::default());
    let patience = Patience { stall: limits.stall(), idle: limits.idle() };
    let stream = Patient::new(Box::pin(stream), patience, Arc::clone(&requests));
    let mut http = http1::Builder::new();
    http.max_buf_size(READ_BUFFER);
    let answering = Arc::clone(service);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, requests) = (Arc::clone(&answering), Arc::clone(&requests));
        async move {
            requests.begin();
            let response = service.answer(request, peer).await;
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
    let probe = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&probe)
}

fn acceptor(tls: &Tls) -> Result<Acceptor, ServerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ServerError::Pem { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(&tls.certificate).map_err(failed(&tls.certificate))?;
    let certificates = certificates.collect::<Result<_, _>>().map_err(failed(&tls.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(failed(&tls.key))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
}
