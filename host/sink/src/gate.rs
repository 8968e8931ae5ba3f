//! A gate for batches: the ones that have not started yet when it closes are not sent.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lets numbered batches start, until it is closed. A closed gate admits only batches up to the last one that has
/// started, so that the started batches have no gap.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// One past the largest number of a batch that has started.
    started: u64,
    is_closed: bool,
}

/// The permission of a batch to start.
#[derive(Debug, Clone, Default)]
pub struct Start {
    gate: Gate,
    number: u64,
}

impl Gate {
    /// Returns the permission of the batch with this number.
    pub fn start(&self, number: u64) -> Start {
        Start { gate: self.clone(), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Start {
    /// Starts the batch, or never returns if it may not start. A sink calls this before it sends anything.
    pub async fn begin(&self) {
        if !self.try_begin() {
            pending().await
        }
    }

    /// Closes the gate.
    pub fn close(&self) {
        self.gate.state().is_closed = true;
    }

    /// Returns true if the gate was closed before the batch could start.
    pub fn is_refused(&self) -> bool {
        let state = self.gate.state();
        state.is_closed && self.number >= state.started
    }

    fn try_begin(&self) -> bool {
        let mut state = self.gate.state();
        if self.number >= state.started {
            if state.is_closed {
                return false;
            }
            state.started = self.number + 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_gate_admits_batches_before_the_last_started_one() {
        let gate = Gate::default();
        let starts: Vec<Start> = (0..4).map(|number| gate.start(number)).collect();
        assert!(starts[2].try_begin());
        gate.start(0).close();
        assert_eq!(starts.iter().map(Start::is_refused).collect::<Vec<_>>(), [false, false, false, true]);
        assert_eq!(starts.iter().map(Start::try_begin).collect::<Vec<_>>(), [true, true, true, false]);
    }

    #[test]
    fn gate_that_closes_before_any_batch_refuses_all() {
        let gate = Gate::default();
        gate.start(0).close();
        assert!(gate.start(0).is_refused() && !gate.start(0).try_begin());
    }
}
