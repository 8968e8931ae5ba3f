//! Moments by two clocks, so that a stop of the service differs from a step of the clock.

/// A moment by the wall clock and by the clock of the machine's boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Moment {
    /// The time, in Unix microseconds.
    pub(crate) time: u64,
    /// The id of the boot; empty if it is not known.
    pub(crate) boot: String,
    /// The time since the boot, in microseconds.
    pub(crate) since_boot: u64,
}

impl Moment {
    /// Returns the time since an earlier moment, in microseconds, by the clock of the boot. Returns `None` if the machine was
    /// booted in between.
    pub(crate) fn since(&self, earlier: &Self) -> Option<u64> {
        let is_same_boot = self.boot == earlier.boot && !self.boot.is_empty();
        if is_same_boot { self.since_boot.checked_sub(earlier.since_boot) } else { None }
    }
}
