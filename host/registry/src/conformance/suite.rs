//! Runs checks in order, and stops after a fatal problem.

use std::time::{Duration, Instant};

use crate::conformance::report::{Finding, Outcome};
use logship_runtime::stage::StageError;

/// Runs checks and records their results.
#[derive(Debug, Default)]
pub(super) struct Suite {
    pub(super) findings: Vec<Finding>,
    /// Prefix of the checks' names.
    pub(super) name_prefix: &'static str,
    /// The reason why further checks are skipped: each would take as long, or as much memory.
    stop_reason: Option<&'static str>,
}

/// A problem found by a check.
#[derive(Debug)]
pub(super) struct Problem {
    text: String,
    /// The reason to skip further checks, if any.
    stop_reason: Option<&'static str>,
}

/// The result of a check: the measured values, or the problem.
pub(super) type Checked = Result<String, Problem>;

impl Suite {
    /// Runs a check under its name, with the sentence of the contract that it is based on.
    pub(super) fn check(
        &mut self,
        check: &'static str,
        contract: &'static str,
        run: impl FnOnce() -> Checked,
    ) {
        let started = Instant::now();
        let outcome = match self.stop_reason {
            Some(reason) => Outcome::Skipped(reason.to_owned()),
            None => match run() {
                Ok(seen) => Outcome::Passed(seen),
                Err(problem) => {
                    self.stop_reason = problem.stop_reason;
                    Outcome::Failed(problem.text)
                }
            },
        };
        self.add(check, contract, outcome, started.elapsed());
    }

    /// Records a skipped check.
    pub(super) fn skip(&mut self, check: &'static str, contract: &'static str, reason: impl Into<String>) {
        self.add(check, contract, Outcome::Skipped(reason.into()), Duration::ZERO);
    }

    fn add(&mut self, check: &str, contract: &'static str, outcome: Outcome, time: Duration) {
        let check = format!("{}{check}", self.name_prefix);
        self.findings.push(Finding { check, contract, outcome, time });
    }

    /// True if the check with this name passed.
    pub(super) fn passed(&self, check: &str) -> bool {
        let check = format!("{}{check}", self.name_prefix);
        let passed = |finding: &Finding| matches!(finding.outcome, Outcome::Passed(_));
        self.findings.iter().any(|finding| finding.check == check && passed(finding))
    }

    /// True if any check failed.
    pub(super) fn has_failed(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding.outcome, Outcome::Failed(_)))
    }
}

impl Problem {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), stop_reason: None }
    }

    /// Returns a problem after which all checks are skipped.
    pub(super) fn fatal(text: impl Into<String>, stop_reason: &'static str) -> Self {
        Self { text: text.into(), stop_reason: Some(stop_reason) }
    }
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        let is_timeout = matches!(error, StageError::Deadline { .. });
        Self {
            text: error.to_string(),
            stop_reason: is_timeout.then_some("a call ran past its deadline above"),
        }
    }
}

/// Adds the input to an error.
pub(super) trait At<T> {
    fn at(self, input: impl FnOnce() -> String) -> Result<T, Problem>;
}

impl<T, E: Into<Problem>> At<T> for Result<T, E> {
    fn at(self, input: impl FnOnce() -> String) -> Result<T, Problem> {
        self.map_err(|error| {
            let problem = error.into();
            Problem { text: format!("{}: {}", input(), problem.text), ..problem }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_problem_skips_further_checks() {
        let mut suite = Suite::default();
        let endless = || Err(Problem::fatal("endless", "it has no end"));
        suite.check("one", "", || Err(Problem::new("wrong")));
        suite.check("two", "", endless);
        suite.check("three", "", || unreachable!("it would take as long"));
        let outcomes: Vec<_> = suite.findings.iter().map(|finding| &finding.outcome).collect();
        assert!(matches!(outcomes[..], [Outcome::Failed(_), Outcome::Failed(_), Outcome::Skipped(_)]));
        assert!(suite.has_failed());
    }
}
