//! How fast a stage is beside a built-in one, in one run.

use std::time::{Duration, Instant};

use super::Settings;
use super::contract;
use super::suite::{Problem, Suite};

/// Rounds in turns, at most, and how long they may take together.
const ROUNDS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells how fast the stage is, and judges where the least is given. A round gives the speeds of both; one comes
/// before, which is not counted.
pub(super) fn check(
    suite: &mut Suite,
    unit: &str,
    built_in: &str,
    settings: &Settings,
    round: impl Fn() -> Result<(f64, f64), Problem>,
) {
    const CHECK: &str = "is-fast-enough";
    if !settings.speed {
        return suite.skip(CHECK, contract::ASKED_FOR, "not asked for");
    }
    if suite.has_failed() {
        return suite.skip(CHECK, contract::ASKED_FOR, "not measured, for other checks failed");
    }
    suite.check(CHECK, contract::ASKED_FOR, || {
        let begun = Instant::now();
        round()?;
        let (mut own, mut other, mut ratios) = (vec![], vec![], vec![]);
        while ratios.len() < ROUNDS && (ratios.is_empty() || begun.elapsed() < PATIENCE) {
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
            Some(least) if ratio < least => Err(Problem::new(format!("{seen}, and {least} is asked for"))),
            _ => Ok(seen),
        }
    });
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
