//! Limits of instances and calls, by the names of Spin's options.

use std::time::Duration;

use clap::Args;
use logship_spin_runtime::limits::{Limits, Reuse};

/// Options for the limits of instances and calls.
#[derive(Debug, Args)]
pub(super) struct ReuseOptions {
    /// Calls of an instance, after which it is replaced; 1 gives each call an instance of its own.
    #[arg(long, value_name = "CALLS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_instance_reuse_count: u32,
    /// Concurrent calls of an instance. A trap ends all of them; 1 ends only the call that traps.
    #[arg(long, value_name = "CALLS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    max_instance_concurrent_reuse_count: u32,
    /// Drops an instance that is idle for this time: 1s, 500ms.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = idle_time)]
    idle_instance_timeout: Duration,
    /// Limits the memory of an instance, without its stages, in bytes or with a unit: 512MiB, 1GiB. Spin takes bytes
    /// only.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = memory)]
    max_instance_memory: usize,
    /// Limits a call: 60s, 500ms. Spin has no limit unless this is set.
    #[arg(long, alias = "timeout", value_name = "TIME", default_value = "60s", value_parser = call_time)]
    request_timeout: Duration,
    /// The earlier name of --max-instance-memory, in MiB.
    #[arg(long, value_name = "MIB", hide = true, conflicts_with = "max_instance_memory", value_parser = clap::value_parser!(u64).range(64..=65536))]
    memory: Option<u64>,
}

impl ReuseOptions {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            memory: self.memory.map_or(self.max_instance_memory, |mib| (mib as usize) << 20),
            timeout: self.request_timeout,
            reuse: Reuse {
                calls: self.max_instance_reuse_count as usize,
                concurrent_calls: self.max_instance_concurrent_reuse_count as usize,
                idle_timeout: self.idle_instance_timeout,
            },
        }
    }
}

/// Units of times. As in Spin, a number without a unit has seconds.
const TIME_UNITS: [(&str, f64); 6] =
    [("ns", 1e-9), ("us", 1e-6), ("\u{3bc}s", 1e-6), ("ms", 1e-3), ("s", 1.0), ("", 1.0)];

/// Units of sizes.
const SIZE_UNITS: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];

const LONGEST_CALL: Duration = Duration::from_secs(3600);
const LEAST_MEMORY: u64 = 64 << 20;
const MOST_MEMORY: u64 = 64 << 30;

fn idle_time(text: &str) -> Result<Duration, String> {
    time(text).filter(|time| *time <= LONGEST_CALL).ok_or_else(|| "use a time up to 1 hour: 1s, 500ms".into())
}

fn call_time(text: &str) -> Result<Duration, String> {
    let is_allowed = |time: &Duration| !time.is_zero() && *time <= LONGEST_CALL;
    time(text).filter(is_allowed).ok_or_else(|| "use a time up to 1 hour, above zero: 60s, 500ms".into())
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) =
        TIME_UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: u64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number as f64 * unit).ok()
}

fn memory(text: &str) -> Result<usize, String> {
    let with_unit = SIZE_UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let bytes = with_unit.and_then(|(number, unit)| number.trim().parse::<u64>().ok()?.checked_mul(*unit));
    let is_allowed = |bytes: &u64| (LEAST_MEMORY..=MOST_MEMORY).contains(bytes);
    match bytes.filter(is_allowed) {
        Some(bytes) => Ok(bytes as usize),
        None => Err("use a size from 64MiB to 64GiB, in bytes or with a unit".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_times_of_spin() {
        let times = [("1", 1000), ("2s", 2000), ("500ms", 500), ("1000us", 1), ("1000\u{3bc}s", 1), ("0", 0)];
        for (text, milliseconds) in times {
            assert_eq!(idle_time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1", "1.5", "1h", "1 s", "3601", "99999999999999999999"] {
            assert!(idle_time(text).is_err(), "{text}");
        }
        assert!(call_time("0").is_err() && call_time("1ns").is_ok());
    }

    #[test]
    fn parses_sizes_with_and_without_unit() {
        for (text, mib) in [("536870912", 512), ("512MiB", 512), ("1GiB", 1024), ("65536KiB", 64)] {
            assert_eq!(memory(text), Ok(mib << 20), "{text}");
        }
        for text in ["", "512", "1", "MiB", "-1GiB", "1.5GiB", "65GiB", "512MB", "18446744073709551615GiB"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }
}
