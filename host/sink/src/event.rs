//! Sinks that take events, and the formatted events on their way there.

use std::ops::Range;

use futures_util::future::BoxFuture;

use crate::gate::Start;
use crate::health::Health;
use crate::sink::Sink;

/// A receiver of events.
pub trait EventSink: Sink {
    /// Sends the events of chunks, with retries, until the receiver has all of them. Returns those that it rejects
    /// permanently. If the future is dropped after `start` has begun, some events may have been received.
    fn deliver<'a>(
        &'a self,
        chunks: &'a [Events<'a>],
        start: &'a Start,
    ) -> BoxFuture<'a, Vec<RejectedMessage>>;

    /// Returns true if batches must be sent one by one, in order.
    fn is_ordered(&self) -> bool;

    /// Returns the health: retries, and the current failure.
    fn health(&self) -> &Health;
}

/// A permanently rejected message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMessage {
    /// Index of the chunk.
    pub chunk: usize,
    /// Index of the message in the chunk.
    pub message: usize,
    /// The receiver's error code.
    pub code: String,
    /// The reason.
    pub reason: String,
}

/// The events of a chunk, end to end.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    /// The bytes of all events.
    pub bytes: &'a [u8],
    /// For each event, one past its last byte in `bytes`.
    pub ends: &'a [u32],
}

impl<'a> Events<'a> {
    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there are no events.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes of some events, end to end.
    pub fn slice(&self, events: Range<usize>) -> &'a [u8] {
        let end = |event: usize| match event {
            0 => 0,
            event => self.ends[event - 1] as usize,
        };
        &self.bytes[end(events.start)..end(events.end)]
    }
}
