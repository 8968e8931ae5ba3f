//! Quotas of keys: what a key may put and pull per second and per day.
//!
//! - `usage`: what a key has used. `usage_file`: the usage of the day, for the next start.

mod usage;
mod usage_file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::keys::KeysById;
use logship_config::key::Key;
use logship_config::quota::Quota;
use logship_sls::error::{ApiError, ErrorCode};
use metrics::{counter, gauge};

use usage::{Flow, Limits, Usage};
use usage_file::UsageFile;

/// The direction of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client.
    Write,
    /// To the client.
    Read,
}

impl Direction {
    fn limits(self, quota: &Quota) -> Limits {
        match self {
            Self::Write => Limits {
                bytes_per_second: quota.write_bytes_per_second,
                logs_per_second: quota.write_logs_per_second,
                bytes_per_day: quota.write_bytes_per_day,
                logs_per_day: quota.write_logs_per_day,
            },
            Self::Read => Limits {
                bytes_per_second: quota.read_bytes_per_second,
                logs_per_second: quota.read_logs_per_second,
                bytes_per_day: quota.read_bytes_per_day,
                logs_per_day: quota.read_logs_per_day,
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    fn error(self) -> ErrorCode {
        match self {
            Self::Write => ErrorCode::WriteQuotaExceed,
            Self::Read => ErrorCode::ReadQuotaExceed,
        }
    }
}

/// An amount of logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) bytes: u64,
    pub(crate) logs: u64,
}

/// The quotas of all keys, and their usage.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// The quota of keys without one.
    default: Quota,
    usage: Mutex<HashMap<String, Usage>>,
    file: UsageFile,
    /// The start of the clock of the rates: changes of the wall clock do not affect them.
    begun: Instant,
}

impl Quotas {
    /// Opens the quotas in a data directory. `now` is Unix time in microseconds, as below.
    pub(crate) fn open(default: Quota, data: &Path, now: u64) -> Self {
        let file = UsageFile::within(data);
        let usage = Mutex::new(file.read(usage::day(now)));
        Self { default, usage, file, begun: Instant::now() }
    }

    /// Fails if the key has used its quota.
    pub(crate) fn check(&self, key: &Key, direction: Direction, now: u64) -> Result<(), ApiError> {
        self.take(key, direction, Amount::default(), now)
    }

    /// Charges logs to a key, or fails if its quota is used.
    pub(crate) fn take(
        &self,
        key: &Key,
        direction: Direction,
        amount: Amount,
        now: u64,
    ) -> Result<(), ApiError> {
        let Some(limits) = self.limits(key, direction) else { return Ok(()) };
        let taken = self.with_flow(&key.id, direction, now, |flow| flow.take(&limits, amount, self.uptime()));
        taken.map_err(|exceeded| {
            let quota = format!("{}-{}", direction.name(), exceeded.name());
            counter!("logship_quota_rejections_total", "key" => key.id.clone(), "quota" => quota.clone())
                .increment(1);
            ApiError::new(direction.error(), format!("key {} exceeds its quota {quota}{exceeded}", key.id))
        })
    }

    /// Charges logs to a key that were sent already, or returns what was not stored.
    pub(crate) fn charge(&self, key: &Key, direction: Direction, amount: Amount, now: u64) {
        if let Some(limits) = self.limits(key, direction) {
            self.with_flow(&key.id, direction, now, |flow| flow.charge(&limits, amount, self.uptime()));
        }
    }

    /// Returns logs to a key that were not stored.
    pub(crate) fn refund(&self, key: &Key, amount: Amount, now: u64) {
        self.with_flow(&key.id, Direction::Write, now, |flow| flow.refund(amount));
    }

    /// Shows the usage of the day in metrics.
    pub(crate) fn export_metrics(&self, keys: &KeysById, now: u64) {
        for key in keys.values() {
            for direction in [Direction::Write, Direction::Read] {
                let Some(limits) = self.limits(key, direction) else { continue };
                let used = self.with_flow(&key.id, direction, now, |flow| flow.day());
                for (name, limit, used) in [
                    ("bytes-per-day", limits.bytes_per_day, used.bytes),
                    ("logs-per-day", limits.logs_per_day, used.logs),
                ] {
                    if let Some(limit) = limit {
                        let quota = format!("{}-{name}", direction.name());
                        let labels = [("key", key.id.clone()), ("quota", quota)];
                        gauge!("logship_quota_used", &labels).set(used as f64);
                        gauge!("logship_quota_limit", &labels).set(limit as f64);
                    }
                }
            }
        }
    }

    /// Writes the usage of the day, if it has changed. Blocks on the disk.
    pub(crate) fn save(&self, now: u64) {
        let usage = self.usage().clone();
        self.file.write(usage::day(now), usage);
    }

    fn limits(&self, key: &Key, direction: Direction) -> Option<Limits> {
        let limits = direction.limits(key.quota.as_ref().unwrap_or(&self.default));
        limits.is_limited().then_some(limits)
    }

    fn with_flow<T>(&self, key: &str, direction: Direction, now: u64, act: impl FnOnce(&mut Flow) -> T) -> T {
        let mut usage = self.usage();
        if !usage.contains_key(key) {
            usage.insert(key.to_owned(), Usage::default());
        }
        let usage = usage.get_mut(key).expect("inserted above");
        act(usage.flow(direction, usage::day(now)))
    }

    /// Returns the time of the clock of the rates, in microseconds.
    fn uptime(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn usage(&self) -> MutexGuard<'_, HashMap<String, Usage>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
