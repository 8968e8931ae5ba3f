//! The state of a connection's requests, and its deadlines.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The limit for a request's head, from its first byte on, and for a client to receive data. For the first request
    /// of a connection, the limit begins when the connection is accepted.
    pub stall: Duration,
    /// The wait for the next request.
    pub idle: Duration,
}

/// The most time to receive a body or to send a reply, in stall timeouts.
pub const MAX_STALLS: u32 = 10;

/// The state of a connection's requests.
#[derive(Debug)]
pub struct Requests {
    timeouts: Timeouts,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// The last time that the client received data.
    written: Instant,
    /// The start of a write that waits for the client.
    blocked: Option<Instant>,
    /// The deadline of the reply that is being sent.
    reply_deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The head of a request is being received.
    Head { deadline: Instant },
    /// A request is processed. Its handler has its own timeouts.
    Busy,
    /// The next request has not begun.
    Idle { since: Instant },
}

impl Requests {
    /// Creates the state of a new connection.
    pub fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        let phase = Phase::Head { deadline: now + timeouts.stall };
        let state = State { phase, written: now, blocked: None, reply_deadline: None };
        Self { timeouts, state: Mutex::new(state) }
    }

    /// Notes that a request's head was received.
    pub fn begin(&self) {
        let mut state = self.state();
        state.phase = Phase::Busy;
        state.reply_deadline = None;
    }

    /// Notes that a reply is ready to be sent.
    pub fn end(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.phase = Phase::Idle { since: now };
        state.reply_deadline = Some(now + self.timeouts.stall * MAX_STALLS);
    }

    /// Returns the timeouts.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Notes received data. Returns false if its deadline has passed: data does not extend the deadline of a head.
    pub(crate) fn received(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.phase {
            Phase::Head { deadline } => now < deadline,
            Phase::Busy => true,
            Phase::Idle { .. } => {
                state.phase = Phase::Head { deadline: now + self.timeouts.stall };
                true
            }
        }
    }

    /// Returns the deadline of a read that waits, or none while a request is processed or a reply is sent.
    pub(crate) fn read_deadline(&self) -> Option<Instant> {
        let state = self.state();
        match state.phase {
            Phase::Head { deadline } => Some(deadline),
            Phase::Busy => None,
            Phase::Idle { .. } if state.blocked.is_some() => None,
            Phase::Idle { since } => Some(since.max(state.written) + self.timeouts.idle),
        }
    }

    /// Notes that the client received data. Returns false if the deadline of the reply has passed.
    pub(crate) fn sent(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.written = now;
        state.blocked = None;
        state.reply_deadline.is_none_or(|deadline| now < deadline)
    }

    /// Notes that nothing waits for the client.
    pub(crate) fn flushed(&self) {
        self.state().blocked = None;
    }

    /// Returns the deadline of a write that waits for the client.
    pub(crate) fn write_deadline(&self, now: Instant) -> Instant {
        let mut state = self.state();
        let stalled = *state.blocked.get_or_insert(now) + self.timeouts.stall;
        state.reply_deadline.map_or(stalled, |deadline| deadline.min(stalled))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
