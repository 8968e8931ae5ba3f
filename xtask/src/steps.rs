use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps of a command, with the time that each took.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    times: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Runs a step and records its time, whether it fails or not.
    pub(crate) fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = step();
        self.times.push((name, start.elapsed()));
        result
    }

    /// Returns the table of the steps.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("{:<28} {:>8}\n", "step", "seconds");
        for (name, time) in &self.times {
            // Writing to a string does not fail.
            let _ = writeln!(table, "{name:<28} {:>8.0}", time.as_secs_f64());
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn table_has_failed_steps_too() {
        let mut steps = Steps::default();
        assert_eq!(steps.run("build", || Ok(1)).unwrap(), 1);
        assert!(steps.run("tests", || -> Result<()> { bail!("no") }).is_err());
        let table = steps.table();
        let names: Vec<_> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(names, ["step", "build", "tests"]);
    }
}
