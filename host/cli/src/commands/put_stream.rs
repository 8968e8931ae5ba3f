//! Streams of identified puts. A stream sends one put at a time, so the service has to tell apart only its last ones.

use std::time::{Duration, Instant};

use crate::print::errln;
use logship_client::{Client, ClientError};

/// The streams of a command that no request uses.
pub(super) struct PutStreams(Vec<PutStream>);

/// A client of the service, in the sense of a put's id.
pub(super) struct PutStream {
    name: String,
    sequence: u64,
}

impl PutStreams {
    /// Creates streams with new names.
    pub(super) fn new(count: u8) -> Self {
        let run = fastrand::u64(..);
        let stream = |number| PutStream { name: format!("put-{run:016x}-{number}"), sequence: 0 };
        // Reversed, so that a small input uses the first ones only.
        Self((0..count).rev().map(stream).collect())
    }

    /// Takes a stream. Returns `None` if requests use all.
    pub(super) fn take(&mut self) -> Option<PutStream> {
        self.0.pop()
    }

    /// Puts a stream back.
    pub(super) fn put_back(&mut self, stream: PutStream) {
        self.0.push(stream);
    }
}

impl PutStream {
    /// Puts a log group once, with retries of transient errors until the timeout.
    pub(super) async fn put(
        &mut self,
        client: &Client,
        logstore: &str,
        group: &[u8],
        retry_timeout: Duration,
    ) -> Result<(), ClientError> {
        let id = format!("{}:{}", self.name, self.sequence);
        with_retries(retry_timeout, || client.put_once(logstore, group, None, &id)).await?;
        self.sequence += 1;
        Ok(())
    }
}

/// Retries transient errors until the timeout.
async fn with_retries<F: Future<Output = Result<(), ClientError>>>(
    retry_timeout: Duration,
    request: impl Fn() -> F,
) -> Result<(), ClientError> {
    let started = Instant::now();
    let mut delay = Duration::from_millis(200);
    loop {
        match request().await {
            Err(error) if error.is_transient() && started.elapsed() + delay < retry_timeout => {
                if started.elapsed() < delay {
                    errln!("retrying for up to {} s: {error}", retry_timeout.as_secs());
                }
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
            result => return result,
        }
    }
}
