use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::command;

/// The cost of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Wall time, in seconds.
    pub(super) wall: f64,
    /// CPU time (user and system), in seconds.
    pub(super) cpu: f64,
}

/// Runs the command and measures it. Prints its output only on failure.
pub(super) fn run(command: &mut Command) -> Result<Cost> {
    // RUSAGE_CHILDREN includes all ended children, and only this command ends between the two calls.
    let (before, start) = (cpu_of_children()?, Instant::now());
    command::read(command.stdin(Stdio::null()))?;
    let wall = start.elapsed();
    Ok(Cost { wall: wall.as_secs_f64(), cpu: (cpu_of_children()? - before).as_secs_f64() })
}

fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

/// Returns the median.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_median() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn measures_cpu_time_of_child() {
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let cost = run(Command::new("sh").args(["-c", script])).unwrap();
        assert!(cost.cpu > 0.0 && cost.wall > 0.0, "{cost:?}");
    }
}
