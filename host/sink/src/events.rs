//! Formatted events on their way to a receiver.

use std::ops::Range;

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
