//! [`Hec`] as a sink: splits events into requests, and finds those that the receiver rejects.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use logship_config::hec::HecConfig;

use super::client::Client;
use super::error::{self, Outcome, Rejection};
use crate::error::SinkError;
use crate::event::{EventSink, Events, RejectedMessage};
use crate::gate::Start;
use crate::health::Health;
use crate::sink::Sink;

/// Consecutive rejections after which the configuration is taken to be wrong, not the events.
const MAX_CONSECUTIVE_REJECTIONS: usize = 200;

/// A HEC receiver.
pub struct Hec {
    client: Client,
    health: Health,
    urls: Vec<String>,
    batch_bytes: usize,
    gzip: bool,
    acknowledge: bool,
    /// Idle channels for acknowledgements, of this process only. A request owns a channel until it is acknowledged:
    /// Splunk restarts its acknowledgement ids after a crash, so an id in a shared channel could be another request's.
    channels: Mutex<Vec<String>>,
    /// Consecutive rejections of single events.
    rejected: AtomicUsize,
}

/// Omits the token.
impl fmt::Debug for Hec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hec").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Hec {
    pub(super) fn new(name: &str, settings: &HecConfig, client: Client) -> Self {
        Self {
            client,
            health: Health::new(name),
            urls: settings.urls.clone(),
            batch_bytes: settings.batch_bytes,
            gzip: settings.gzip,
            acknowledge: settings.acknowledge,
            channels: Mutex::default(),
            rejected: AtomicUsize::new(0),
        }
    }

    /// Sends all messages in concurrent requests.
    async fn send_chunks(&self, chunks: &[Events<'_>], start: &Start) -> Vec<RejectedMessage> {
        let requests = chunks.iter().enumerate().flat_map(|(number, chunk)| {
            let ranges = self.split(chunk).into_iter();
            ranges.map(move |range| self.send(number, chunk, range, start))
        });
        futures_util::future::join_all(requests).await.into_iter().flatten().collect()
    }

    /// Splits messages into requests.
    fn split(&self, events: &Events<'_>) -> Vec<Range<usize>> {
        let ends = events.ends;
        let (mut requests, mut first, mut begin) = (vec![], 0, 0);
        for message in 0..ends.len() {
            if ends[message] as usize - begin > self.batch_bytes && message > first {
                requests.push(first..message);
                (first, begin) = (message, ends[message - 1] as usize);
            }
        }
        if first < ends.len() {
            requests.push(first..ends.len());
        }
        requests
    }

    /// Sends messages until each is accepted or permanently rejected.
    async fn send(
        &self,
        chunk: usize,
        events: &Events<'_>,
        messages: Range<usize>,
        start: &Start,
    ) -> Vec<RejectedMessage> {
        let (mut pending, mut rejected) = (vec![messages], vec![]);
        // After a rejection, more are likely: the request size shrinks, and doubles with each success.
        let mut max_messages = usize::MAX;
        while let Some(mut messages) = pending.pop() {
            if messages.is_empty() {
                continue;
            }
            if messages.len() > max_messages {
                pending.push(messages.start + max_messages..messages.end);
                messages.end = messages.start + max_messages;
            }
            let events = events.slice(messages.clone());
            let Err(rejection) = self.send_until_accepted(events, messages.len() == 1, start).await else {
                max_messages = max_messages.saturating_mul(2);
                continue;
            };
            if messages.len() == 1 {
                let Rejection { code, reason, .. } = rejection;
                rejected.push(RejectedMessage { chunk, message: messages.start, code, reason });
                max_messages = 1;
                continue;
            }
            // HEC does not tell if the events before the rejected one were accepted, so they are sent again. Only an
            // event that is rejected in a request of its own is surely the wrong one.
            match rejection.number.filter(|number| *number < messages.len()) {
                Some(number) => {
                    let rejected_index = messages.start + number;
                    pending.extend([
                        rejected_index + 1..messages.end,
                        rejected_index..rejected_index + 1,
                        messages.start..rejected_index,
                    ]);
                }
                None => {
                    let middle = messages.start + messages.len() / 2;
                    pending.extend([middle..messages.end, messages.start..middle]);
                }
            }
        }
        rejected
    }

    /// Sends events until they are accepted or permanently rejected. `is_single` tells if there is only one event.
    async fn send_until_accepted(
        &self,
        events: &[u8],
        is_single: bool,
        start: &Start,
    ) -> Result<(), Rejection> {
        let body = self.body(events).await;
        loop {
            let channel = self.acknowledge.then(|| self.channels().pop().unwrap_or_else(new_channel));
            let (endpoint, outcome) = self.client.send(body.clone(), channel.as_deref(), start).await;
            match outcome {
                Outcome::Accepted { warning, .. } => {
                    if let Some(warning) = warning {
                        self.health.record_warning(warning);
                    }
                    self.rejected.store(0, Ordering::Relaxed);
                    endpoint.record_success();
                    self.health.record_success();
                    self.channels().extend(channel);
                    return Ok(());
                }
                Outcome::Rejected(rejection) => {
                    if is_single
                        && self.rejected.fetch_add(1, Ordering::Relaxed) >= MAX_CONSECUTIVE_REJECTIONS
                    {
                        let problem = error::all_rejected(&rejection, MAX_CONSECUTIVE_REJECTIONS);
                        endpoint.report_failure(&self.health, &problem, None);
                        continue;
                    }
                    endpoint.record_success();
                    return Err(rejection);
                }
                Outcome::Failed(problem, retry_after) => {
                    endpoint.report_failure(&self.health, &problem, retry_after);
                }
            }
        }
    }

    fn channels(&self) -> MutexGuard<'_, Vec<String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn body(&self, events: &[u8]) -> Bytes {
        let events = events.to_vec();
        if !self.gzip {
            return events.into();
        }
        let compress = move || {
            let mut gzip = GzEncoder::new(Vec::with_capacity(events.len() / 4), Compression::fast());
            // Writing to memory can't fail.
            gzip.write_all(&events).and_then(|()| gzip.finish()).unwrap_or_default()
        };
        tokio::task::spawn_blocking(compress).await.unwrap_or_default().into()
    }
}

impl Sink for Hec {
    fn kind(&self) -> &'static str {
        "hec"
    }

    fn name(&self) -> &str {
        self.health.name()
    }

    /// Sends a request without events to each URL.
    fn probe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async { self.client.probe(&new_channel()).await })
    }
}

impl EventSink for Hec {
    fn deliver<'a>(
        &'a self,
        chunks: &'a [Events<'a>],
        start: &'a Start,
    ) -> BoxFuture<'a, Vec<RejectedMessage>> {
        Box::pin(self.send_chunks(chunks, start))
    }

    fn is_ordered(&self) -> bool {
        false
    }

    fn health(&self) -> &Health {
        &self.health
    }
}

/// A random UUID, the format that Splunk requires of a channel.
fn new_channel() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0xc << 60) | 4 << 76 | 8 << 60;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_a_uuid() {
        let channel = new_channel();
        let parts: Vec<usize> = channel.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(channel.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&channel.as_bytes()[19]));
    }
}
