use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::command;

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Seconds on the clock.
    pub(super) wall: f64,
    /// Seconds of processors, in the program and in the system for it.
    pub(super) cpu: f64,
}

/// Runs the command, quietly as long as it succeeds.
pub(super) fn run(command: &mut Command) -> Result<Cost> {
    // The usage of all children that have ended: only this one ends in between.
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

/// The middle one.
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
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn a_child_costs_processor_time() {
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let cost = run(Command::new("sh").args(["-c", script])).unwrap();
        assert!(cost.cpu > 0.0 && cost.wall > 0.0, "{cost:?}");
    }
}
