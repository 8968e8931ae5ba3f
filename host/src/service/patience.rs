//! How long a connection may do nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the first request, for the rest of a head that has begun, and for a client to take what is sent.
    pub(crate) stall: Duration,
    /// For the next request.
    pub(crate) idle: Duration,
}

/// What a connection's requests tell its stream.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Whether one is being answered. Its own rules count then.
    busy: AtomicBool,
    /// How many were begun.
    begun: AtomicU64,
}

impl Requests {
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }
}

/// A stream that fails when it was waited for too long.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    stream: S,
    patience: Patience,
    requests: Arc<Requests>,
    /// The number of the request whose head was being read when something came last.
    head_of: Option<u64>,
    reading: Timer,
    writing: Timer,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, patience: Patience, requests: Arc<Requests>) -> Self {
        Self {
            stream,
            patience,
            requests,
            head_of: None,
            reading: Timer::default(),
            writing: Timer::default(),
        }
    }

    /// How long may be waited for bytes; none while a request is answered.
    fn read_patience(&self) -> Option<Duration> {
        let begun = self.requests.begun.load(Ordering::Relaxed);
        if self.requests.busy.load(Ordering::Relaxed) {
            return None;
        }
        let within_head = self.head_of == Some(begun) || begun == 0;
        Some(if within_head { self.patience.stall } else { self.patience.idle })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.reading.stop();
            this.head_of = (!this.requests.busy.load(Ordering::Relaxed))
                .then(|| this.requests.begun.load(Ordering::Relaxed));
            return Poll::Ready(result);
        }
        match this.read_patience() {
            Some(patience) => {
                ready!(this.reading.poll(cx, patience));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            None => {
                this.reading.stop();
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing.stop();
            return written;
        }
        ready!(self.writing.poll(cx, self.patience.stall));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A timer that is made when it is needed first: most reads and writes don't wait.
#[derive(Debug, Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    runs: bool,
}

impl Timer {
    fn stop(&mut self) {
        self.runs = false;
    }

    /// Ready when it ran for so long without being stopped.
    fn poll(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !self.runs {
            sleep.as_mut().reset(Instant::now() + patience);
            self.runs = true;
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Patience = Patience { stall: Duration::from_millis(20), idle: Duration::from_secs(3600) };

    #[tokio::test]
    async fn the_first_request_and_the_rest_of_a_head_are_not_waited_for_long() {
        let (mut client, server) = duplex(64);
        let requests = Arc::new(Requests::default());
        let mut stream = Patient::new(server, PATIENCE, Arc::clone(&requests));
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // A request is answered, however long it takes, and then the next may take its time: until it begins.
        requests.begin();
        let while_busy = tokio::time::timeout(PATIENCE.stall * 3, stream.read(&mut buffer)).await;
        assert!(while_busy.is_err(), "it only waits");
        requests.end();
        let while_idle = tokio::time::timeout(PATIENCE.stall * 3, stream.read(&mut buffer)).await;
        assert!(while_idle.is_err(), "it only waits");
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 8);
        assert_eq!(stream.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_client, server) = duplex(4);
        let mut stream = Patient::new(server, PATIENCE, Arc::default());
        assert_eq!(stream.write_all(b"more than four").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
