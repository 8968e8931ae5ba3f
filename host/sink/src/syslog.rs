//! Syslog over UDP, TCP or TLS.
//!
//! # Delivery confirmation
//! Syslog has no responses. Over TCP and TLS, closing the connection serves as one: each batch has a connection of its
//! own, whose sending side is closed after the batch. A receiver that has read everything closes its side, too; one
//! that died or stopped with unread data resets the connection. Messages are confirmed when the receiver closes its
//! side. For receivers that never close (`confirm = "sent"`), all batches share a connection, and messages are
//! confirmed when the receiver's TCP stack has acknowledged their bytes. Over UDP messages are confirmed when they are
//! sent.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::backoff::Backoff;
use crate::events::Events;
use crate::receiver::{Health, ReceiverError, RejectedMessage};
use logship_config::syslog::{Confirm, Framing, Protocol, SyslogConfig};

/// Largest payload of a datagram, in bytes.
const MAX_DATAGRAM: usize = 65_507;
const DEFAULT_MAX_DATAGRAM: usize = 8192;

/// Interval of checks for acknowledged bytes.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A syslog receiver.
pub(crate) struct Syslog {
    settings: SyslogConfig,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connections: Semaphore,
    /// The shared connection of `confirm = "sent"`.
    shared: Mutex<Option<Box<dyn Stream>>>,
    /// The UDP socket, and the earliest time of the next datagram.
    socket: Mutex<(Option<UdpSocket>, Instant)>,
}

impl fmt::Debug for Syslog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(formatter)
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::client::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// The message of a failure.
type Problem = String;

impl Syslog {
    pub(crate) fn new(settings: &SyslogConfig) -> Result<Self, ReceiverError> {
        if settings.host.is_empty() {
            return Err(ReceiverError::setting("host", "is missing: the receiver's name or address"));
        }
        if settings.timeout_seconds == 0 || settings.connections == 0 {
            return Err(ReceiverError::setting("timeout-seconds", "and connections must be at least 1"));
        }
        if settings.protocol == Protocol::Udp && settings.max_bytes.is_some_and(|bytes| bytes > MAX_DATAGRAM)
        {
            return Err(ReceiverError::setting(
                "max-bytes",
                format!("must be at max_bytes {MAX_DATAGRAM}, the size of a datagram"),
            ));
        }
        let is_tls = settings.protocol == Protocol::Tls;
        if !is_tls && (settings.ca.is_some() || settings.certificate.is_some()) {
            return Err(ReceiverError::setting("protocol", "must be \"tls\" to use certificates"));
        }
        Ok(Self {
            tls: is_tls.then(|| tls(settings)).transpose()?,
            connections: Semaphore::new(settings.connections),
            shared: Mutex::default(),
            socket: Mutex::new((None, Instant::now())),
            settings: settings.clone(),
        })
    }

    /// Sends all messages, in order.
    pub(crate) async fn deliver(&self, chunks: &[Events<'_>], health: &Health) -> Vec<RejectedMessage> {
        let (mut messages, mut rejected) = (vec![], vec![]);
        for (number, chunk) in chunks.iter().enumerate() {
            self.partition(number, chunk, &mut messages, &mut rejected);
        }
        if self.settings.protocol == Protocol::Udp {
            self.send_datagrams(&messages, health).await;
            return rejected;
        }
        let frames = self.frames(&messages);
        drop(messages);
        if frames.is_empty() {
            // Nothing is sent, so the health stays unknown.
            return rejected;
        }
        let mut backoff = Backoff::default();
        loop {
            match self.send_stream(&frames).await {
                Ok(()) => {
                    health.record_success();
                    return rejected;
                }
                Err(problem) => {
                    let wait = backoff.next();
                    health.record_failure(
                        format!("{}:{}: {problem}", self.settings.host, self.settings.port),
                        wait,
                    );
                    sleep(wait).await;
                }
            }
        }
    }

    /// Partitions messages into sendable and permanently rejected ones.
    fn partition<'a>(
        &self,
        chunk: usize,
        events: &'a Events<'_>,
        sendable: &mut Vec<&'a [u8]>,
        rejected: &mut Vec<RejectedMessage>,
    ) {
        let max_bytes = match (self.settings.max_bytes, self.settings.protocol) {
            (Some(max_bytes), _) => max_bytes,
            (None, Protocol::Udp) => DEFAULT_MAX_DATAGRAM,
            (None, _) => usize::MAX,
        };
        let is_line = self.settings.protocol != Protocol::Udp && self.settings.framing == Framing::Newline;
        for message in 0..events.len() {
            let bytes = events.slice(message..message + 1);
            let mut reject = |code: &str, reason| {
                rejected.push(RejectedMessage { chunk, message, code: code.into(), reason });
            };
            if bytes.len() > max_bytes {
                reject("TooLarge", format!("{} bytes, and the receiver takes {max_bytes}", bytes.len()));
            } else if is_line && memchr::memchr(b'\n', bytes).is_some() {
                reject("LineBreak", "the message contains a line feed, which ends a message in newline framing; use octet counting".into());
            } else {
                sendable.push(bytes);
            }
        }
    }

    fn frames(&self, messages: &[&[u8]]) -> Vec<u8> {
        let bytes: usize = messages.iter().map(|message| message.len() + 8).sum();
        let mut frames = Vec::with_capacity(bytes);
        let mut number = itoa::Buffer::new();
        for bytes in messages {
            match self.settings.framing {
                Framing::OctetCounting => {
                    frames.extend_from_slice(number.format(bytes.len()).as_bytes());
                    frames.push(b' ');
                    frames.extend_from_slice(bytes);
                }
                Framing::Newline => {
                    frames.extend_from_slice(bytes);
                    frames.push(b'\n');
                }
            }
        }
        frames
    }

    async fn send_stream(&self, frames: &[u8]) -> Result<(), Problem> {
        match self.settings.confirm {
            Confirm::Close => {
                let _permit = self.connections.acquire().await;
                let mut stream = self.connect().await?;
                let sent = async {
                    self.write(&mut *stream, frames).await?;
                    self.wait_for_close(&mut *stream).await
                };
                let sent = sent.await;
                if sent.is_err() {
                    reset(stream.tcp());
                }
                sent
            }
            Confirm::Sent => {
                let mut shared = self.shared.lock().await;
                // Taken out, so that a connection is not reused after a cancelled send.
                let mut stream = match shared.take() {
                    Some(stream) if is_open(stream.tcp()) => stream,
                    _ => self.connect().await?,
                };
                let sent = async {
                    self.write(&mut *stream, frames).await?;
                    self.wait_for_ack(stream.tcp()).await
                };
                let sent = sent.await;
                match sent {
                    Ok(()) => *shared = Some(stream),
                    Err(_) => reset(stream.tcp()),
                }
                sent
            }
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Problem> {
        let SyslogConfig { host, port, .. } = &self.settings;
        let connect = async {
            let stream =
                TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
            let _ = stream.set_nodelay(true);
            Ok::<Box<dyn Stream>, Problem>(match &self.tls {
                None => Box::new(stream),
                Some((tls, name)) => Box::new(
                    tls.connect(name.clone(), stream).await.map_err(|error| format!("TLS: {error}"))?,
                ),
            })
        };
        self.with_timeout(connect, "can't connect").await
    }

    async fn write(&self, stream: &mut dyn Stream, frames: &[u8]) -> Result<(), Problem> {
        let (socket, mut left) = (stream.tcp().as_raw_fd(), frames);
        while !left.is_empty() {
            let write = async { stream.write(left).await.map_err(|error| error.to_string()) };
            let written = self.with_progress_timeout(socket, write, "the receiver accepts no data").await?;
            if written == 0 {
                return Err("the connection was closed".into());
            }
            left = &left[written..];
        }
        let flush = async { stream.flush().await.map_err(|error| error.to_string()) };
        self.with_progress_timeout(socket, flush, "the receiver accepts no data").await
    }

    /// Closes the sending side, and waits until the receiver closes its side.
    ///
    /// A receiver that closes first has not read everything, so nothing is confirmed then. Neither is it if the
    /// connection is reset later.
    async fn wait_for_close(&self, stream: &mut dyn Stream) -> Result<(), Problem> {
        let socket = stream.tcp().as_raw_fd();
        if state(socket).map_err(|error| error.to_string())? != ESTABLISHED {
            return Err("the receiver closed the connection before all was sent".into());
        }
        let close = async {
            stream.shutdown().await.map_err(|error| error.to_string())?;
            let mut answer = [0; 256];
            let broke = |error| format!("the connection failed before all was received: {error}");
            loop {
                match stream.read(&mut answer).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    // Some receivers close without a TLS close_notify.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(broke(error)),
                }
            }
            while state(socket).map_err(broke)? != CLOSED {
                sleep(POLL_INTERVAL).await;
            }
            stream.tcp().take_error().map_err(broke)?.map_or(Ok(()), |error| Err(broke(error)))
        };
        let hint = "the receiver did not close the connection after the last message (set confirm = \"sent\" if it never does)";
        self.with_progress_timeout(socket, close, hint).await
    }

    /// Waits until the receiver's TCP stack has acknowledged all bytes.
    async fn wait_for_ack(&self, stream: &TcpStream) -> Result<(), Problem> {
        let wait = async {
            while unacknowledged(stream.as_raw_fd()).map_err(|error| error.to_string())? > 0 {
                sleep(POLL_INTERVAL).await;
            }
            if is_open(stream) { Ok(()) } else { Err("the connection was closed".into()) }
        };
        self.with_progress_timeout(stream.as_raw_fd(), wait, "sent data is not acknowledged").await
    }

    /// Runs `work` with a timeout that restarts whenever the receiver's TCP stack acknowledges bytes.
    async fn with_progress_timeout<T>(
        &self,
        socket: RawFd,
        work: impl Future<Output = Result<T, Problem>>,
        problem: &str,
    ) -> Result<T, Problem> {
        let mut work = pin!(work);
        loop {
            let before = unacknowledged(socket).ok();
            match self.with_timeout(async { Ok(work.as_mut().await) }, problem).await {
                Ok(done) => return done,
                Err(problem) if unacknowledged(socket).ok() == before => return Err(problem),
                Err(_) => {}
            }
        }
    }

    async fn with_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
        problem: &str,
    ) -> Result<T, Problem> {
        let seconds = self.settings.timeout_seconds;
        let done = timeout(Duration::from_secs(seconds), work).await;
        done.unwrap_or_else(|_| Err(format!("{problem} within {seconds} seconds")))
    }

    /// Sends each message as a datagram. Retries datagrams that the system rejects.
    async fn send_datagrams(&self, messages: &[&[u8]], health: &Health) {
        let mut guard = self.socket.lock().await;
        let (socket, next) = &mut *guard;
        let mut backoff = Backoff::default();
        for message in messages {
            if self.settings.rate > 0 {
                sleep_until(*next).await;
                let gap = Duration::from_secs(1) / self.settings.rate;
                // Timers are coarse, so short bursts are allowed.
                *next = (*next + gap).max(Instant::now() - Duration::from_millis(2));
            }
            while let Err(problem) = self.send_datagram(socket, message).await {
                *socket = None;
                let wait = backoff.next();
                health.record_failure(
                    format!("{}:{}: {problem}", self.settings.host, self.settings.port),
                    wait,
                );
                sleep(wait).await;
            }
        }
        health.record_success();
    }

    async fn send_datagram(&self, socket: &mut Option<UdpSocket>, bytes: &[u8]) -> Result<(), Problem> {
        let text = |error: io::Error| error.to_string();
        let open = match socket {
            Some(open) => open,
            None => {
                let SyslogConfig { host, port, .. } = &self.settings;
                let mut found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(text)?;
                let address = found.next().ok_or("the name has no address")?;
                let local: SocketAddr =
                    if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
                let made = UdpSocket::bind(local).await.map_err(text)?;
                made.connect(address).await.map_err(text)?;
                socket.insert(made)
            }
        };
        open.send(bytes).await.map(drop).map_err(text)
    }
}

/// Makes the connection drop unsent bytes when it is closed. They are resent over another connection, and a receiver
/// that recovers must not get them several times.
fn reset(stream: &TcpStream) {
    _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// True if the peer has neither closed nor reset the connection.
fn is_open(stream: &TcpStream) -> bool {
    state(stream.as_raw_fd()).is_ok_and(|state| state == ESTABLISHED)
}

/// TCP states, as Linux numbers them.
const ESTABLISHED: u8 = 1;
const CLOSED: u8 = 7;

/// The TCP state of a connection.
fn state(socket: RawFd) -> io::Result<u8> {
    let (mut state, mut length) = (0, size_of::<u8>() as libc::socklen_t);
    // SAFETY: the socket is open. By tcp(7), the kernel writes at most `length` bytes of `tcp_info`, whose first field
    // is the state, a byte.
    let done = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &mut length)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(state) }
}

/// Sent bytes that the peer's TCP stack has not acknowledged.
fn unacknowledged(socket: RawFd) -> io::Result<usize> {
    let mut left: libc::c_int = 0;
    // SAFETY: the socket is open. By tcp(7), the kernel writes an int for `SIOCOUTQ`, which has the same number.
    let done = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut left) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(left.try_into().unwrap_or_default()) }
}

fn tls(settings: &SyslogConfig) -> Result<(TlsConnector, ServerName<'static>), ReceiverError> {
    // Fails if a provider is installed already, which is fine.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let name = settings.server_name.clone().unwrap_or_else(|| settings.host.clone());
    let name = ServerName::try_from(name).map_err(|error| ReceiverError::setting("server-name", error))?;
    let config = match &settings.ca {
        None => {
            use rustls_platform_verifier::BuilderVerifierExt;
            let builder = ClientConfig::builder().with_platform_verifier();
            builder.map_err(|error| ReceiverError::setting("ca", error))?
        }
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("ca", file)? {
                let added = roots.add(certificate);
                added
                    .map_err(|error| ReceiverError::setting("ca", format!("{}: {error}", file.display())))?;
            }
            ClientConfig::builder().with_root_certificates(roots)
        }
    };
    let config = match (&settings.certificate, &settings.key) {
        (None, None) => config.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let wrong = |error: &dyn fmt::Display| {
                ReceiverError::setting("key", format!("{}: {error}", key.display()))
            };
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(&error))?;
            let chain = certificates("certificate", certificate)?;
            config.with_client_auth_cert(chain, private).map_err(|error| wrong(&error))?
        }
        _ => return Err(ReceiverError::setting("certificate", "and key must be set together")),
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn certificates(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ReceiverError> {
    let wrong =
        |error: &dyn fmt::Display| ReceiverError::setting(setting, format!("{}: {error}", file.display()));
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if read.is_empty() { Err(wrong(&"contains no PEM certificate")) } else { Ok(read) }
}
