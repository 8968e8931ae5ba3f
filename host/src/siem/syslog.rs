//! Syslog over UDP, TCP or TLS.
//!
//! # When messages are received
//! Syslog has no answers. Over TCP and TLS the end of a connection is one: what a load has is sent over a connection
//! of its own, whose sending side is closed then; a receiver that has read all closes its side in turn, and one that
//! died or was stopped with something unread resets it. Until its side is closed nothing counts as received. A receiver
//! that does not close (`confirm = "sent"`) has one connection for all, and messages count as received when its
//! system has acknowledged their bytes. Over UDP they do when they are sent.

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

use super::backoff::Backoff;
use super::format::Formatted;
use super::receiver::{Health, ReceiverError, Refused};

/// Settings of a syslog receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What messages are sent by.
    pub protocol: Protocol,
    /// How messages are told apart in a stream.
    pub framing: Framing,
    /// When messages count as received, over TCP and TLS.
    pub confirm: Confirm,
    /// Seconds to wait for a connection, and for the receiver to take something or to confirm it.
    pub timeout_seconds: u64,
    /// The largest message, in bytes; what is larger is a dead letter. By default 8192 over UDP, and without bounds
    /// otherwise. Receivers cut, or drop, what is larger than they take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Messages a second at most, over UDP: nothing else keeps a sender from being too fast. 0: no bounds.
    pub rate: u32,
    /// Connections at one time, over TCP and TLS with `confirm = "close"`. Each shard has one of them at a time.
    pub connections: usize,
    /// File with certificates (PEM) of the authorities to trust, in place of those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// File with the certificate (PEM) to show, those of its issuers behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// File with its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name that the receiver's certificate has to have; by default `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 514,
            protocol: Protocol::default(),
            framing: Framing::default(),
            confirm: Confirm::default(),
            timeout_seconds: 120,
            max_bytes: None,
            rate: 0,
            connections: 16,
            ca: None,
            certificate: None,
            key: None,
            server_name: None,
        }
    }
}

/// What messages are sent by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// One datagram a message. Some may be lost, and nobody knows.
    Udp,
    /// A stream.
    #[default]
    Tcp,
    /// A stream within TLS (RFC 5425).
    Tls,
}

/// How messages are told apart in a stream (RFC 6587).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Each has its length in front.
    #[default]
    OctetCounting,
    /// Each has a line feed behind it. One that has a line feed in it is a dead letter.
    Newline,
}

/// When messages count as received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// When the receiver has closed its side of the connection.
    #[default]
    Close,
    /// When its system has acknowledged their bytes: what its program had not read yet is lost if it dies.
    Sent,
}

/// The most that a datagram holds.
const DATAGRAM: usize = 65_507;
const USUAL_DATAGRAM: usize = 8192;

/// How often it is looked whether all was acknowledged.
const LOOK: Duration = Duration::from_millis(1);

/// A syslog receiver.
pub(crate) struct Syslog {
    settings: Settings,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connections: Semaphore,
    /// The connection for all, where there is one.
    kept: Mutex<Option<Box<dyn Stream>>>,
    /// The socket for datagrams, and when the next may be sent.
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

/// What a failure says.
type Problem = String;

impl Syslog {
    pub(crate) fn new(settings: &Settings) -> Result<Self, ReceiverError> {
        if settings.host.is_empty() {
            return Err(ReceiverError::setting("host", "is missing: the receiver's name or address"));
        }
        if settings.timeout_seconds == 0 || settings.connections == 0 {
            return Err(ReceiverError::setting("timeout-seconds", "and connections are at least 1"));
        }
        if settings.protocol == Protocol::Udp && settings.max_bytes.is_some_and(|bytes| bytes > DATAGRAM) {
            return Err(ReceiverError::setting("max-bytes", format!("a datagram holds {DATAGRAM} at most")));
        }
        let is_tls = settings.protocol == Protocol::Tls;
        if !is_tls && (settings.ca.is_some() || settings.certificate.is_some()) {
            return Err(ReceiverError::setting("protocol", "certificates are for protocol = \"tls\" only"));
        }
        Ok(Self {
            tls: is_tls.then(|| tls(settings)).transpose()?,
            connections: Semaphore::new(settings.connections),
            kept: Mutex::default(),
            socket: Mutex::new((None, Instant::now())),
            settings: settings.clone(),
        })
    }

    /// Sends all messages, in order.
    pub(crate) async fn deliver(&self, chunks: &[Formatted], health: &Health) -> Vec<Refused> {
        let (mut messages, mut refused) = (vec![], vec![]);
        for (number, chunk) in chunks.iter().enumerate() {
            self.sort(number, chunk, &mut messages, &mut refused);
        }
        if self.settings.protocol == Protocol::Udp {
            self.send_datagrams(&messages, health).await;
            return refused;
        }
        let frames = self.frames(&messages);
        drop(messages);
        if frames.is_empty() {
            // The receiver is not asked: it is not known whether it works.
            return refused;
        }
        let mut backoff = Backoff::default();
        loop {
            match self.send_stream(&frames).await {
                Ok(()) => {
                    health.works();
                    return refused;
                }
                Err(problem) => {
                    let wait = backoff.next();
                    health.fails(format!("{}:{}: {problem}", self.settings.host, self.settings.port), wait);
                    sleep(wait).await;
                }
            }
        }
    }

    /// Those messages that can be sent, and those that never can.
    fn sort<'a>(
        &self,
        chunk: usize,
        formatted: &'a Formatted,
        left: &mut Vec<&'a [u8]>,
        refused: &mut Vec<Refused>,
    ) {
        let most = match (self.settings.max_bytes, self.settings.protocol) {
            (Some(most), _) => most,
            (None, Protocol::Udp) => USUAL_DATAGRAM,
            (None, _) => usize::MAX,
        };
        let is_line = self.settings.protocol != Protocol::Udp && self.settings.framing == Framing::Newline;
        for message in 0..formatted.len() {
            let bytes = formatted.bytes(message..message + 1);
            let mut refuse = |code: &str, reason| {
                refused.push(Refused { chunk, message, code: code.into(), reason });
            };
            if bytes.len() > most {
                refuse("TooLarge", format!("{} bytes, and the receiver takes {most}", bytes.len()));
            } else if is_line && memchr::memchr(b'\n', bytes).is_some() {
                refuse("LineBreak", "a line feed in a message that one ends; use octet counting".into());
            } else {
                left.push(bytes);
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
                    self.closed(&mut *stream).await
                };
                let sent = sent.await;
                if sent.is_err() {
                    give_up(stream.tcp());
                }
                sent
            }
            Confirm::Sent => {
                let mut kept = self.kept.lock().await;
                // Taken, so that a connection that was given up halfway is not used again.
                let mut stream = match kept.take() {
                    Some(stream) if is_open(stream.tcp()) => stream,
                    _ => self.connect().await?,
                };
                let sent = async {
                    self.write(&mut *stream, frames).await?;
                    self.acknowledged(stream.tcp()).await
                };
                let sent = sent.await;
                match sent {
                    Ok(()) => *kept = Some(stream),
                    Err(_) => give_up(stream.tcp()),
                }
                sent
            }
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Problem> {
        let Settings { host, port, .. } = &self.settings;
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
        self.in_time(connect, "no connection").await
    }

    async fn write(&self, stream: &mut dyn Stream, frames: &[u8]) -> Result<(), Problem> {
        let (socket, mut left) = (stream.tcp().as_raw_fd(), frames);
        while !left.is_empty() {
            let write = async { stream.write(left).await.map_err(|error| error.to_string()) };
            let written = self.while_it_takes(socket, write, "nothing is taken").await?;
            if written == 0 {
                return Err("the connection was closed".into());
            }
            left = &left[written..];
        }
        let flush = async { stream.flush().await.map_err(|error| error.to_string()) };
        self.while_it_takes(socket, flush, "nothing is taken").await
    }

    /// Closes the sending side, and waits until the receiver has closed its own.
    ///
    /// A receiver that closes before has not read all, though its end looks the same: where it comes first nothing is
    /// confirmed, and neither where the connection is reset after it.
    async fn closed(&self, stream: &mut dyn Stream) -> Result<(), Problem> {
        let socket = stream.tcp().as_raw_fd();
        if state(socket).map_err(|error| error.to_string())? != ESTABLISHED {
            return Err("the connection was closed before all was sent".into());
        }
        let close = async {
            stream.shutdown().await.map_err(|error| error.to_string())?;
            let mut answer = [0; 256];
            let broke = |error| format!("the connection broke before all was received: {error}");
            loop {
                match stream.read(&mut answer).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    // Not every receiver ends TLS before it closes.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(broke(error)),
                }
            }
            while state(socket).map_err(broke)? != CLOSED {
                sleep(LOOK).await;
            }
            stream.tcp().take_error().map_err(broke)?.map_or(Ok(()), |error| Err(broke(error)))
        };
        let hint = "the connection is not closed by the receiver when all is sent (one that never does that needs confirm = \"sent\")";
        self.while_it_takes(socket, close, hint).await
    }

    /// Waits until the receiver's system has all bytes.
    async fn acknowledged(&self, stream: &TcpStream) -> Result<(), Problem> {
        let wait = async {
            while unacknowledged(stream.as_raw_fd()).map_err(|error| error.to_string())? > 0 {
                sleep(LOOK).await;
            }
            if is_open(stream) { Ok(()) } else { Err("the connection was closed".into()) }
        };
        self.while_it_takes(stream.as_raw_fd(), wait, "what was sent is not acknowledged").await
    }

    /// Does work within the time for it, which begins anew when the receiver's system has taken some of what was sent.
    async fn while_it_takes<T>(
        &self,
        socket: RawFd,
        work: impl Future<Output = Result<T, Problem>>,
        problem: &str,
    ) -> Result<T, Problem> {
        let mut work = pin!(work);
        loop {
            let before = unacknowledged(socket).ok();
            match self.in_time(async { Ok(work.as_mut().await) }, problem).await {
                Ok(done) => return done,
                Err(problem) if unacknowledged(socket).ok() == before => return Err(problem),
                Err(_) => {}
            }
        }
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
        problem: &str,
    ) -> Result<T, Problem> {
        let seconds = self.settings.timeout_seconds;
        let done = timeout(Duration::from_secs(seconds), work).await;
        done.unwrap_or_else(|_| Err(format!("{problem}, within {seconds} seconds")))
    }

    /// Sends each message as a datagram. One that the system does not take is sent again.
    async fn send_datagrams(&self, messages: &[&[u8]], health: &Health) {
        let mut held = self.socket.lock().await;
        let (socket, next) = &mut *held;
        let mut backoff = Backoff::default();
        for message in messages {
            if self.settings.rate > 0 {
                sleep_until(*next).await;
                let gap = Duration::from_secs(1) / self.settings.rate;
                // Timers are coarse: a few at once are as good.
                *next = (*next + gap).max(Instant::now() - Duration::from_millis(2));
            }
            while let Err(problem) = self.send_datagram(socket, message).await {
                *socket = None;
                let wait = backoff.next();
                health.fails(format!("{}:{}: {problem}", self.settings.host, self.settings.port), wait);
                sleep(wait).await;
            }
        }
        health.works();
    }

    async fn send_datagram(&self, socket: &mut Option<UdpSocket>, bytes: &[u8]) -> Result<(), Problem> {
        let text = |error: io::Error| error.to_string();
        let open = match socket {
            Some(open) => open,
            None => {
                let Settings { host, port, .. } = &self.settings;
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

/// Drops what the system still has to send: it is sent again by another connection, and a receiver that wakes up must
/// not get it as often as it was tried.
fn give_up(stream: &TcpStream) {
    _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Whether the other side has neither closed nor reset it.
fn is_open(stream: &TcpStream) -> bool {
    state(stream.as_raw_fd()).is_ok_and(|state| state == ESTABLISHED)
}

/// States of a connection, as Linux numbers them: open on both sides, and closed on both.
const ESTABLISHED: u8 = 1;
const CLOSED: u8 = 7;

/// The state of a connection.
fn state(socket: RawFd) -> io::Result<u8> {
    let (mut state, mut length) = (0, size_of::<u8>() as libc::socklen_t);
    // SAFETY: the socket is open. As tcp(7) says of `TCP_INFO`, the kernel writes as much as there is room for of
    // `tcp_info`, whose first member, a byte, is the state.
    let done = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &mut length)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(state) }
}

/// Bytes that were sent, and that the other side's system has not acknowledged.
fn unacknowledged(socket: RawFd) -> io::Result<usize> {
    let mut left: libc::c_int = 0;
    // SAFETY: the socket is open, and the kernel writes an int, as tcp(7) says of `SIOCOUTQ`, which has the same number.
    let done = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut left) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(left.try_into().unwrap_or_default()) }
}

fn tls(settings: &Settings) -> Result<(TlsConnector, ServerName<'static>), ReceiverError> {
    // The first to come installs it; another one of the same kind is as good.
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
        _ => return Err(ReceiverError::setting("certificate", "and key belong together")),
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn certificates(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ReceiverError> {
    let wrong =
        |error: &dyn fmt::Display| ReceiverError::setting(setting, format!("{}: {error}", file.display()));
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if read.is_empty() { Err(wrong(&"has no certificate in PEM")) } else { Ok(read) }
}
