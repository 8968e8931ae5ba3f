//! A stream that fails at the deadlines of its requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connections::Connection;

/// A stream that fails when a read or write exceeds its deadline.
#[derive(Debug)]
pub struct DeadlineStream<S> {
    stream: S,
    connection: Arc<Connection>,
    read_timer: Timer,
    write_timer: Timer,
}

impl<S> DeadlineStream<S> {
    /// Wraps the stream of a connection.
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, read_timer: Timer::default(), write_timer: Timer::default() }
    }
}

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl<S: AsyncRead + Unpin> AsyncRead for DeadlineStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            // A client that sends a byte now and then keeps the stream ready.
            return if this.connection.requests().received(Instant::now()) {
                Poll::Ready(result)
            } else {
                timed_out()
            };
        }
        while let Some(deadline) = this.connection.requests().read_deadline() {
            ready!(this.read_timer.poll(cx, deadline));
            // The idle timeout begins anew with each part of a reply.
            if this.connection.requests().read_deadline().is_some_and(|now| now <= deadline) {
                return timed_out();
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> DeadlineStream<S> {
    /// Applies the deadline to the result of a write.
    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            return self.wait(cx);
        }
        if self.connection.requests().sent(Instant::now()) { written } else { timed_out() }
    }

    /// Applies the deadline to the result of a flush or shutdown.
    fn flushed(&mut self, cx: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if flushed.is_pending() {
            return self.wait(cx);
        }
        self.connection.requests().flushed();
        flushed
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let deadline = self.connection.requests().write_deadline(Instant::now());
        ready!(self.write_timer.poll(cx, deadline));
        timed_out()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for DeadlineStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.flushed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.flushed(cx, shut)
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

/// A timer, created at its first use because most reads and writes don't wait.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the deadline has passed.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::connections::{ConnectionLimits, Connections};
    use crate::requests::Timeouts;

    const STALL: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    fn stream(size: usize, idle: Duration) -> (DuplexStream, DeadlineStream<DuplexStream>, Arc<Connection>) {
        let (client, server) = duplex(size);
        let limits = ConnectionLimits { total: 1, per_address: 1, per_key: 1 };
        let connections = Connections::new(limits, Timeouts { stall: STALL, idle });
        let connection = Arc::new(connections.admit(Ipv4Addr::LOCALHOST.into()).unwrap());
        (client, DeadlineStream::new(server, Arc::clone(&connection)), connection)
    }

    fn is_timeout<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test]
    async fn times_out_first_request_and_partial_head() {
        let (mut client, mut stream, connection) = stream(64, LONG);
        let mut buffer = [0; 64];
        assert!(is_timeout(stream.read(&mut buffer).await));
        connection.requests().begin();
        let while_busy = tokio::time::timeout(STALL * 3, stream.read(&mut buffer)).await;
        assert!(while_busy.is_err(), "the read is pending");
        connection.requests().end();
        let while_idle = tokio::time::timeout(STALL * 3, stream.read(&mut buffer)).await;
        assert!(while_idle.is_err(), "the read is pending");
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 8);
        assert!(is_timeout(stream.read(&mut buffer).await));
    }

    #[tokio::test]
    async fn trickling_does_not_extend_a_head() {
        for after_a_request in [false, true] {
            let (mut client, mut stream, connection) = stream(64, LONG);
            if after_a_request {
                connection.requests().begin();
                connection.requests().end();
            }
            let trickling = tokio::spawn(async move {
                while client.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(STALL / 10).await;
                }
            });
            let begun = Instant::now();
            let mut buffer = [0; 64];
            let error = loop {
                if let Err(error) = stream.read(&mut buffer).await {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(begun.elapsed() >= STALL, "{:?}", begun.elapsed());
            drop(stream);
            trickling.await.unwrap();
        }
    }

    #[tokio::test]
    async fn idle_connection_lives_as_long_as_the_setting() {
        let (_client, mut stream, connection) = stream(64, STALL * 4);
        let mut buffer = [0; 64];
        // The read begins to wait in the first head, and ends in the idle time after a request.
        let first = tokio::time::timeout(STALL / 2, stream.read(&mut buffer)).await;
        assert!(first.is_err(), "the read is pending");
        connection.requests().begin();
        connection.requests().end();
        let begun = Instant::now();
        assert!(is_timeout(stream.read(&mut buffer).await));
        assert!(begun.elapsed() >= STALL * 3, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn times_out_write_to_stalled_client() {
        let (_client, mut stream, _) = stream(4, LONG);
        assert!(is_timeout(stream.write_all(b"more than four").await));
    }

    #[tokio::test]
    async fn slow_reading_does_not_extend_a_reply() {
        let (mut client, mut stream, connection) = stream(4, LONG);
        connection.requests().begin();
        connection.requests().end();
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            while client.read(&mut byte).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(STALL / 10).await;
            }
        });
        let begun = Instant::now();
        assert!(is_timeout(stream.write_all(&[0; 1 << 20]).await));
        assert!(begun.elapsed() >= STALL * 5, "{:?}", begun.elapsed());
        drop(stream);
        reading.await.unwrap();
    }
}
