//! Comparison of a stage's speed with that of a built-in stage, in the same process.

use std::time::{Duration, Instant};

use crate::conformance::Settings;
use crate::conformance::contract;
use crate::conformance::suite::{Problem, Suite};

/// Maximum number of rounds, and their maximum total duration.
const MAX_ROUNDS: usize = 7;
const TIME_BUDGET: Duration = Duration::from_secs(5);

/// Measures the speed, and fails below the minimum if there is one. A round returns the speeds of both
/// stages. A first round warms up and is not counted.
pub(super) fn check(
    suite: &mut Suite,
    unit: &str,
    built_in: &str,
    settings: &Settings,
    round: impl Fn() -> Result<(f64, f64), Problem>,
) {
    const CHECK: &str = "is-fast-enough";
    if !settings.speed {
        return suite.skip(CHECK, contract::MIN_SPEED, "not requested");
    }
    if suite.has_failed() {
        return suite.skip(CHECK, contract::MIN_SPEED, "not measured, because other checks failed");
    }
    suite.check(CHECK, contract::MIN_SPEED, || {
        let started = Instant::now();
        round()?;
        let (mut own, mut other, mut ratios) = (vec![], vec![], vec![]);
        while ratios.len() < MAX_ROUNDS && (ratios.is_empty() || started.elapsed() < TIME_BUDGET) {
            let (one, two) = round()?;
            own.push(one);
            other.push(two);
            ratios.push(one / two);
        }
        let ratio = median(ratios);
        let seen = format!(
            "{ratio:.2} of the speed of {built_in} ({:.2} and {:.2} {unit})",
            median(own),
            median(other)
        );
        match settings.least_speed {
            Some(least) if ratio < least => {
                Err(Problem::new(format!("{seen}, but --least-speed is {least}")))
            }
            _ => Ok(seen),
        }
    });
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
