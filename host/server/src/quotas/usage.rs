//! What a key has used of its quota.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Amount, Direction};

/// The time for which an unused rate can be used later, in microseconds.
const BURST: u64 = 1_000_000;

/// Returns the day of a time in microseconds.
pub(super) fn day(now: u64) -> u64 {
    now / 86_400_000_000
}

/// The limits of a direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) bytes_per_second: Option<u64>,
    pub(super) logs_per_second: Option<u64>,
    pub(super) bytes_per_day: Option<u64>,
    pub(super) logs_per_day: Option<u64>,
}

impl Limits {
    pub(super) fn is_limited(&self) -> bool {
        let Self { bytes_per_second, logs_per_second, bytes_per_day, logs_per_day } = self;
        [bytes_per_second, logs_per_second, bytes_per_day, logs_per_day].iter().any(|limit| limit.is_some())
    }
}

/// A quota that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    BytesPerSecond { limit: u64, wait: u64 },
    LogsPerSecond { limit: u64, wait: u64 },
    BytesPerDay { limit: u64 },
    LogsPerDay { limit: u64 },
}

impl Exceeded {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BytesPerSecond { .. } => "bytes-per-second",
            Self::LogsPerSecond { .. } => "logs-per-second",
            Self::BytesPerDay { .. } => "bytes-per-day",
            Self::LogsPerDay { .. } => "logs-per-day",
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BytesPerSecond { limit, wait } | Self::LogsPerSecond { limit, wait } => {
                let seconds = wait.div_ceil(1_000_000);
                write!(formatter, " = {limit}: try again in {seconds} s")
            }
            Self::BytesPerDay { limit } | Self::LogsPerDay { limit } => {
                write!(formatter, " = {limit}: try again after 00:00 UTC, or ask for a larger quota")
            }
        }
    }
}

/// The usage of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    day: u64,
    write: Flow,
    read: Flow,
}

impl Usage {
    /// Returns the usage of a direction. A new day begins without usage.
    pub(super) fn flow(&mut self, direction: Direction, day: u64) -> &mut Flow {
        // A clock that is set back returns nothing. A day that a wrong clock began does not last until it comes.
        let is_new = day > self.day;
        if is_new || self.day - day > 1 {
            self.day = day;
        }
        if is_new {
            for flow in [&mut self.write, &mut self.read] {
                (flow.bytes, flow.logs) = (0, 0);
            }
        }
        match direction {
            Direction::Write => &mut self.write,
            Direction::Read => &mut self.read,
        }
    }

    pub(super) fn is_of(&self, day: u64) -> bool {
        self.day >= day && (self.write, self.read) != (Flow::default(), Flow::default())
    }
}

/// The usage of a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Flow {
    /// The bytes and logs of the day.
    bytes: u64,
    logs: u64,
    /// The times at which the rates are paid off, in microseconds.
    #[serde(skip)]
    bytes_paid: u64,
    #[serde(skip)]
    logs_paid: u64,
}

impl Flow {
    /// Takes an amount, if the quota is not used. The rate may go into debt, so that a large request passes. `now` is a
    /// time of a monotonic clock, in microseconds.
    pub(super) fn take(&mut self, limits: &Limits, amount: Amount, now: u64) -> Result<(), Exceeded> {
        let wait = |paid: u64| (paid > now).then(|| paid - now);
        if let (Some(limit), Some(wait)) = (limits.bytes_per_second, wait(self.bytes_paid)) {
            return Err(Exceeded::BytesPerSecond { limit, wait });
        }
        if let (Some(limit), Some(wait)) = (limits.logs_per_second, wait(self.logs_paid)) {
            return Err(Exceeded::LogsPerSecond { limit, wait });
        }
        // An empty amount asks whether anything is left.
        let is_used = |used: u64, amount: u64, limit: u64| used.saturating_add(amount.max(1)) > limit;
        if let Some(limit) = limits.bytes_per_day.filter(|&limit| is_used(self.bytes, amount.bytes, limit)) {
            return Err(Exceeded::BytesPerDay { limit });
        }
        if let Some(limit) = limits.logs_per_day.filter(|&limit| is_used(self.logs, amount.logs, limit)) {
            return Err(Exceeded::LogsPerDay { limit });
        }
        self.charge(limits, amount, now);
        Ok(())
    }

    /// Charges an amount.
    pub(super) fn charge(&mut self, limits: &Limits, Amount { bytes, logs }: Amount, now: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.logs = self.logs.saturating_add(logs);
        pay(&mut self.bytes_paid, limits.bytes_per_second, bytes, now);
        pay(&mut self.logs_paid, limits.logs_per_second, logs, now);
    }

    /// Returns an amount of the day. The debt of the rate stays: a failed request was work as well.
    pub(super) fn refund(&mut self, Amount { bytes, logs }: Amount) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.logs = self.logs.saturating_sub(logs);
    }

    /// Returns the usage of the day.
    pub(super) fn day(&self) -> Amount {
        Amount { bytes: self.bytes, logs: self.logs }
    }
}

/// Adds the time that an amount takes at a rate.
fn pay(paid: &mut u64, rate: Option<u64>, amount: u64, now: u64) {
    let Some(rate) = rate.filter(|&rate| rate > 0) else { return };
    let time = u128::from(amount) * 1_000_000 / u128::from(rate);
    let begin = (*paid).max(now.saturating_sub(BURST));
    *paid = begin.saturating_add(time.try_into().unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const DAY: u64 = 86_400 * SECOND;

    fn bytes(bytes: u64) -> Amount {
        Amount { bytes, logs: 1 }
    }

    #[test]
    fn rate_allows_a_burst_and_then_debt() {
        let limits = Limits { bytes_per_second: Some(100), ..Limits::default() };
        let (mut flow, now) = (Flow::default(), DAY);
        flow.take(&limits, bytes(100), now).unwrap();
        flow.take(&limits, bytes(500), now).unwrap();
        assert_eq!(
            flow.take(&limits, bytes(1), now),
            Err(Exceeded::BytesPerSecond { limit: 100, wait: 5 * SECOND })
        );
        assert!(flow.take(&limits, bytes(1), now + 4 * SECOND).is_err());
        flow.take(&limits, bytes(1), now + 5 * SECOND).unwrap();
    }

    #[test]
    fn steady_use_at_the_rate_is_never_rejected() {
        let limits = Limits { logs_per_second: Some(10), ..Limits::default() };
        let mut flow = Flow::default();
        for step in 0..1000 {
            flow.take(&limits, bytes(1 << 40), DAY + step * SECOND / 10).unwrap();
        }
    }

    #[test]
    fn day_is_exact_and_renewed() {
        let limits = Limits { bytes_per_day: Some(10), logs_per_day: Some(3), ..Limits::default() };
        let mut usage = Usage::default();
        let flow = usage.flow(Direction::Write, 7);
        flow.take(&limits, bytes(8), DAY).unwrap();
        assert_eq!(flow.take(&limits, bytes(3), DAY), Err(Exceeded::BytesPerDay { limit: 10 }));
        flow.take(&limits, bytes(2), DAY).unwrap();
        assert!(flow.take(&limits, Amount::default(), DAY).is_err(), "nothing is left");
        flow.refund(bytes(2));
        flow.take(&limits, bytes(1), DAY).unwrap();
        flow.take(&limits, bytes(0), DAY).unwrap();
        assert_eq!(flow.take(&limits, bytes(0), DAY), Err(Exceeded::LogsPerDay { limit: 3 }));
        assert!(usage.flow(Direction::Read, 7).take(&limits, bytes(1), DAY).is_ok());
        assert!(usage.flow(Direction::Write, 6).take(&limits, bytes(1), DAY).is_err(), "a clock set back");
        usage.flow(Direction::Write, 8).take(&limits, bytes(10), DAY).unwrap();
    }

    #[test]
    fn day_of_a_wrong_clock_does_not_last() {
        let limits = Limits { logs_per_day: Some(2), ..Limits::default() };
        let mut usage = Usage::default();
        usage.flow(Direction::Write, 4000).take(&limits, bytes(1), DAY).unwrap();
        usage.flow(Direction::Write, 7).take(&limits, bytes(1), DAY).unwrap();
        assert!(usage.flow(Direction::Write, 7).take(&limits, bytes(1), DAY).is_err(), "nothing is returned");
        assert!(usage.flow(Direction::Write, 8).take(&limits, bytes(1), DAY).is_ok(), "the next day");
    }

    #[test]
    fn huge_amounts_do_not_overflow() {
        let limits = Limits { bytes_per_second: Some(1), bytes_per_day: Some(u64::MAX), ..Limits::default() };
        let mut flow = Flow::default();
        flow.charge(&limits, bytes(u64::MAX), u64::MAX - 1);
        flow.charge(&limits, bytes(u64::MAX), DAY);
        assert!(flow.take(&limits, bytes(u64::MAX), DAY).is_err());
    }
}
