//! The host's state of a running instance.

use fastrand::Rng;
use wasmtime::ResourceLimiter;

use crate::deadline::Deadline;

/// Seed of the random numbers.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Host state of a running instance. A component may have several linear memories: the cap applies to their
/// sum, in bytes.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) cap: usize,
    pub(crate) used: usize,
    /// Memory requested beyond the cap, in bytes.
    pub(crate) denied: Option<usize>,
    /// The deadline of the current call, for epochs.
    pub(crate) deadline: Option<Deadline>,
    /// Random numbers for a stage that may use WASI.
    random: Rng,
}

impl Guest {
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap, used: 0, denied: None, deadline: None, random: Rng::with_seed(SEED) }
    }

    /// Begins a call. Resets the random numbers, so that a reused instance gives the same bytes as a new one.
    pub(crate) fn begin(&mut self) {
        self.denied = None;
        self.random = Rng::with_seed(SEED);
    }

    /// Returns pseudorandom numbers with a fixed seed: the same in every call.
    pub(crate) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        now: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Growth beyond the memory's own maximum fails in any case and is not counted as denied.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let asked = self.used.saturating_add(desired.saturating_sub(now));
        if asked > self.cap {
            self.denied = Some(asked);
            return Ok(false);
        }
        self.used = asked;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 1 << 20)
    }
}
