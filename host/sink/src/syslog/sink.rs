//! [`Syslog`] as a sink.

use std::fmt;

use futures_util::future::BoxFuture;
use logship_config::syslog::{Framing, Protocol};
use tokio::time::sleep;

use super::client::{Client, connect_datagrams};
use super::error;
use crate::backoff::Backoff;
use crate::error::SinkError;
use crate::event::{EventSink, Events, RejectedMessage};
use crate::gate::Start;
use crate::health::Health;
use crate::sink::Sink;

/// A syslog receiver.
pub struct Syslog {
    client: Client,
    health: Health,
}

impl fmt::Debug for Syslog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.settings.fmt(formatter)
    }
}

impl Syslog {
    pub(super) fn new(name: &str, client: Client) -> Self {
        Self { client, health: Health::new(name) }
    }

    /// Sends all messages, in order.
    async fn send(&self, chunks: &[Events<'_>], start: &Start) -> Vec<RejectedMessage> {
        start.begin().await;
        let settings = &self.client.settings;
        let (mut messages, mut rejected) = (vec![], vec![]);
        for (number, chunk) in chunks.iter().enumerate() {
            for message in 0..chunk.len() {
                let bytes = chunk.slice(message..message + 1);
                match error::rejection(settings, bytes) {
                    None => messages.push(bytes),
                    Some((code, reason)) => {
                        rejected.push(RejectedMessage { chunk: number, message, code: code.into(), reason });
                    }
                }
            }
        }
        if settings.protocol == Protocol::Udp {
            self.send_datagrams(&messages).await;
            return rejected;
        }
        let frames = frames(settings.framing, &messages);
        drop(messages);
        // If nothing is sent, the health stays unknown.
        if !frames.is_empty() {
            self.send_frames(&frames).await;
        }
        rejected
    }

    /// Sends frames until the receiver confirms them.
    async fn send_frames(&self, frames: &[u8]) {
        let mut backoff = Backoff::default();
        while let Err(problem) = self.client.send_stream(frames).await {
            self.back_off(&mut backoff, &problem).await;
        }
        self.health.record_success();
    }

    /// Sends each message as a datagram. Retries datagrams that the system rejects.
    async fn send_datagrams(&self, messages: &[&[u8]]) {
        let settings = &self.client.settings;
        let mut datagrams = self.client.datagrams().await;
        let mut backoff = Backoff::default();
        for message in messages {
            datagrams.wait_for_turn(settings.rate).await;
            while let Err(problem) = datagrams.send(settings, message).await {
                self.back_off(&mut backoff, &problem).await;
            }
        }
        self.health.record_success();
    }

    async fn back_off(&self, backoff: &mut Backoff, problem: &str) {
        let wait = backoff.next_delay();
        self.health.record_failure(error::at(&self.client.settings, &problem), wait);
        sleep(wait).await;
    }
}

impl Sink for Syslog {
    fn kind(&self) -> &'static str {
        "syslog"
    }

    fn name(&self) -> &str {
        self.health.name()
    }

    /// Connects, and closes the connection. Over UDP, looks up the address.
    fn probe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        let settings = &self.client.settings;
        Box::pin(async move {
            let connected = match settings.protocol {
                Protocol::Udp => connect_datagrams(settings).await.map(drop),
                Protocol::Tcp | Protocol::Tls => self.client.connect().await.map(drop),
            };
            connected.map_err(|problem| error::unavailable(settings, &problem))
        })
    }
}

impl EventSink for Syslog {
    fn deliver<'a>(
        &'a self,
        chunks: &'a [Events<'a>],
        start: &'a Start,
    ) -> BoxFuture<'a, Vec<RejectedMessage>> {
        Box::pin(self.send(chunks, start))
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn health(&self) -> &Health {
        &self.health
    }
}

/// Frames messages for a stream.
fn frames(framing: Framing, messages: &[&[u8]]) -> Vec<u8> {
    let bytes: usize = messages.iter().map(|message| message.len() + 8).sum();
    let mut frames = Vec::with_capacity(bytes);
    let mut number = itoa::Buffer::new();
    for bytes in messages {
        match framing {
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
