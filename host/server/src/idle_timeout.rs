//! Closes connections that are idle or stalled.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// The wait for the first request, for the rest of a request's head, and for a client to receive data.
    pub(crate) stall: Duration,
    /// The wait for the next request.
    pub(crate) idle: Duration,
}

/// The state of a connection's requests, which its stream needs.
#[derive(Debug, Default)]
pub(crate) struct RequestState {
    /// True while a request is processed. Its handler has its own timeouts.
    busy: AtomicBool,
    /// The number of started requests.
    started: AtomicU64,
}

impl RequestState {
    pub(crate) fn begin(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }
}

/// A stream that fails when a read or write exceeds its timeout.
#[derive(Debug)]
pub(crate) struct TimeoutStream<S> {
    stream: S,
    timeouts: Timeouts,
    requests: Arc<RequestState>,
    /// The number of the request whose head was being read at the last read.
    reading_head: Option<u64>,
    read_timer: Timer,
    write_timer: Timer,
}

impl<S> TimeoutStream<S> {
    pub(crate) fn new(stream: S, timeouts: Timeouts, requests: Arc<RequestState>) -> Self {
        Self {
            stream,
            timeouts,
            requests,
            reading_head: None,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
        }
    }

    /// The timeout for a read, or none while a request is processed.
    fn read_timeout(&self) -> Option<Duration> {
        let started = self.requests.started.load(Ordering::Relaxed);
        if self.requests.busy.load(Ordering::Relaxed) {
            return None;
        }
        let within_head = self.reading_head == Some(started) || started == 0;
        Some(if within_head { self.timeouts.stall } else { self.timeouts.idle })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.read_timer.stop();
            this.reading_head = (!this.requests.busy.load(Ordering::Relaxed))
                .then(|| this.requests.started.load(Ordering::Relaxed));
            return Poll::Ready(result);
        }
        match this.read_timeout() {
            Some(timeout) => {
                ready!(this.read_timer.poll(cx, timeout));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            None => {
                this.read_timer.stop();
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> TimeoutStream<S> {
    /// Applies the write timeout to the result of a write.
    fn with_timeout<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer.stop();
            return written;
        }
        ready!(self.write_timer.poll(cx, self.timeouts.stall));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.with_timeout(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(cx);
        self.with_timeout(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.with_timeout(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.with_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A timer, created at its first use because most reads and writes don't wait.
#[derive(Debug, Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl Timer {
    fn stop(&mut self) {
        self.is_running = false;
    }

    /// Starts the timer if it is stopped. Ready when `timeout` has passed since the start.
    fn poll(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_running {
            sleep.as_mut().reset(Instant::now() + timeout);
            self.is_running = true;
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts { stall: Duration::from_millis(20), idle: Duration::from_secs(3600) };

    #[tokio::test]
    async fn times_out_first_request_and_partial_head() {
        let (mut client, server) = duplex(64);
        let requests = Arc::new(RequestState::default());
        let mut stream = TimeoutStream::new(server, TIMEOUTS, Arc::clone(&requests));
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // No timeout while a request is processed. Then the idle timeout applies until the next request starts.
        requests.begin();
        let while_busy = tokio::time::timeout(TIMEOUTS.stall * 3, stream.read(&mut buffer)).await;
        assert!(while_busy.is_err(), "the read is pending");
        requests.end();
        let while_idle = tokio::time::timeout(TIMEOUTS.stall * 3, stream.read(&mut buffer)).await;
        assert!(while_idle.is_err(), "the read is pending");
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 8);
        assert_eq!(stream.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn times_out_write_to_stalled_client() {
        let (_client, server) = duplex(4);
        let mut stream = TimeoutStream::new(server, TIMEOUTS, Arc::default());
        assert_eq!(stream.write_all(b"more than four").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
