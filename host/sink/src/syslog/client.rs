//! Connections and datagrams of syslog.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::time::Duration;

use logship_config::syslog::{Confirm, SyslogConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::{self, Problem};
use crate::reload::Reloaded;
use crate::tcp;

/// Interval of checks for acknowledged bytes.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A connector with the certificates of the settings, and the name of the receiver.
pub(super) type Tls = (Reloaded<TlsConnector>, ServerName<'static>);

/// The client of a receiver.
pub(super) struct Client {
    pub(super) settings: SyslogConfig,
    tls: Option<Tls>,
    connections: Semaphore,
    /// The shared connection of `confirm = "sent"`.
    shared: Mutex<Option<Box<dyn Stream>>>,
    datagrams: Mutex<Datagrams>,
}

/// The sender of datagrams.
pub(super) struct Datagrams {
    socket: Option<UdpSocket>,
    /// The earliest time of the next datagram.
    next: Instant,
}

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
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

impl Client {
    pub(super) fn new(settings: &SyslogConfig, tls: Option<Tls>) -> Self {
        Self {
            tls,
            connections: Semaphore::new(settings.connections),
            shared: Mutex::default(),
            datagrams: Mutex::new(Datagrams { socket: None, next: Instant::now() }),
            settings: settings.clone(),
        }
    }

    /// Returns the sender of datagrams, for one batch.
    pub(super) async fn datagrams(&self) -> MutexGuard<'_, Datagrams> {
        self.datagrams.lock().await
    }

    /// Sends frames over a connection, and waits for the confirmation.
    pub(super) async fn send_stream(&self, frames: &[u8]) -> Result<(), Problem> {
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
                    tcp::reset(stream.tcp());
                }
                sent
            }
            Confirm::Sent => {
                let mut shared = self.shared.lock().await;
                // Taken out, so that a connection is not reused after a cancelled send.
                let mut stream = match shared.take() {
                    Some(stream) if tcp::is_open(stream.tcp()) => stream,
                    _ => self.connect().await?,
                };
                let sent = async {
                    self.write(&mut *stream, frames).await?;
                    self.wait_for_ack(stream.tcp()).await
                };
                let sent = sent.await;
                match sent {
                    Ok(()) => *shared = Some(stream),
                    Err(_) => tcp::reset(stream.tcp()),
                }
                sent
            }
        }
    }

    /// Connects, with TLS if the settings want it.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, Problem> {
        let SyslogConfig { host, port, .. } = &self.settings;
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(error::io)?;
            let _ = stream.set_nodelay(true);
            Ok::<Box<dyn Stream>, Problem>(match &self.tls {
                None => Box::new(stream),
                Some((tls, name)) => {
                    Box::new(tls.get().connect(name.clone(), stream).await.map_err(error::tls)?)
                }
            })
        };
        self.with_timeout(connect, "can't connect").await
    }

    async fn write(&self, stream: &mut dyn Stream, frames: &[u8]) -> Result<(), Problem> {
        let (socket, mut left) = (stream.tcp().as_raw_fd(), frames);
        while !left.is_empty() {
            let write = async { stream.write(left).await.map_err(error::io) };
            let written = self.with_progress_timeout(socket, write, "the receiver accepts no data").await?;
            if written == 0 {
                return Err(error::closed());
            }
            left = &left[written..];
        }
        let flush = async { stream.flush().await.map_err(error::io) };
        self.with_progress_timeout(socket, flush, "the receiver accepts no data").await
    }

    /// Closes the sending side, and waits until the receiver closes its side.
    ///
    /// A receiver that closes first has not read everything, so nothing is confirmed then. Neither is it if the
    /// connection is reset later.
    async fn wait_for_close(&self, stream: &mut dyn Stream) -> Result<(), Problem> {
        let socket = stream.tcp().as_raw_fd();
        if tcp::state(socket).map_err(error::io)? != tcp::ESTABLISHED {
            return Err("the receiver closed the connection before all was sent".into());
        }
        let close = async {
            stream.shutdown().await.map_err(error::io)?;
            let mut answer = [0; 256];
            loop {
                match stream.read(&mut answer).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    // Some receivers close without a TLS close_notify.
                    Err(error) if error::is_close(&error) => break,
                    Err(error) => return Err(error::not_received(error)),
                }
            }
            while tcp::state(socket).map_err(error::not_received)? != tcp::CLOSED {
                sleep(POLL_INTERVAL).await;
            }
            stream
                .tcp()
                .take_error()
                .map_err(error::not_received)?
                .map_or(Ok(()), |error| Err(error::not_received(error)))
        };
        let hint = "the receiver did not close the connection after the last message (set confirm = \"sent\" if it never does)";
        self.with_progress_timeout(socket, close, hint).await
    }

    /// Waits until the receiver's TCP stack has acknowledged all bytes.
    async fn wait_for_ack(&self, stream: &TcpStream) -> Result<(), Problem> {
        let wait = async {
            while tcp::unacknowledged(stream.as_raw_fd()).map_err(error::io)? > 0 {
                sleep(POLL_INTERVAL).await;
            }
            if tcp::is_open(stream) { Ok(()) } else { Err(error::closed()) }
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
            let before = tcp::unacknowledged(socket).ok();
            match self.with_timeout(async { Ok(work.as_mut().await) }, problem).await {
                Ok(done) => return done,
                Err(problem) if tcp::unacknowledged(socket).ok() == before => return Err(problem),
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
}

impl Datagrams {
    /// Waits until `rate`, in datagrams per second, allows another one. 0: unlimited.
    pub(super) async fn wait_for_turn(&mut self, rate: u32) {
        if rate > 0 {
            sleep_until(self.next).await;
            let gap = Duration::from_secs(1) / rate;
            // Timers are coarse, so short bursts are allowed.
            self.next = (self.next + gap).max(Instant::now() - Duration::from_millis(2));
        }
    }

    /// Sends a datagram. After a failure, the next one gets a new socket.
    pub(super) async fn send(&mut self, settings: &SyslogConfig, bytes: &[u8]) -> Result<(), Problem> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect_datagrams(settings).await?,
        };
        socket.send(bytes).await.map_err(error::io)?;
        self.socket = Some(socket);
        Ok(())
    }
}

/// Creates a socket for datagrams to the receiver.
pub(super) async fn connect_datagrams(settings: &SyslogConfig) -> Result<UdpSocket, Problem> {
    let SyslogConfig { host, port, .. } = settings;
    let mut found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(error::io)?;
    let address = found.next().ok_or("the name has no address")?;
    let local: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(error::io)?;
    socket.connect(address).await.map_err(error::io)?;
    Ok(socket)
}
