//! Checks that run one after the other, and what stops them.

use std::time::{Duration, Instant};

use super::report::{Finding, Outcome};
use crate::stage::StageError;

/// Runs checks and writes down what comes of them.
#[derive(Debug, Default)]
pub(super) struct Suite {
    pub(super) findings: Vec<Finding>,
    /// What stands before the names of checks.
    pub(super) part: &'static str,
    /// Why nothing more is tried: each further check would take as long, or as much memory.
    stopped: Option<&'static str>,
}

/// What a check found to be wrong.
#[derive(Debug)]
pub(super) struct Problem {
    text: String,
    /// Why nothing more is to be tried, if so.
    stops: Option<&'static str>,
}

/// What a check gives: what it saw, or what is wrong.
pub(super) type Checked = Result<String, Problem>;

impl Suite {
    /// Runs a check under its name, with the sentence of the contract that it rests on.
    pub(super) fn check(
        &mut self,
        check: &'static str,
        contract: &'static str,
        run: impl FnOnce() -> Checked,
    ) {
        let begun = Instant::now();
        let outcome = match self.stopped {
            Some(reason) => Outcome::Skipped(reason.to_owned()),
            None => match run() {
                Ok(seen) => Outcome::Passed(seen),
                Err(problem) => {
                    self.stopped = problem.stops;
                    Outcome::Failed(problem.text)
                }
            },
        };
        self.add(check, contract, outcome, begun.elapsed());
    }

    /// Writes down that a check was not tried.
    pub(super) fn skip(&mut self, check: &'static str, contract: &'static str, reason: impl Into<String>) {
        self.add(check, contract, Outcome::Skipped(reason.into()), Duration::ZERO);
    }

    fn add(&mut self, check: &str, contract: &'static str, outcome: Outcome, time: Duration) {
        let check = format!("{}{check}", self.part);
        self.findings.push(Finding { check, contract, outcome, time });
    }

    /// Whether the check of this name was passed.
    pub(super) fn passed(&self, check: &str) -> bool {
        let check = format!("{}{check}", self.part);
        let passed = |finding: &Finding| matches!(finding.outcome, Outcome::Passed(_));
        self.findings.iter().any(|finding| finding.check == check && passed(finding))
    }

    /// Whether any check failed so far.
    pub(super) fn has_failed(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding.outcome, Outcome::Failed(_)))
    }
}

impl Problem {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), stops: None }
    }

    /// A problem behind which nothing more is to be tried.
    pub(super) fn last(text: impl Into<String>, stops: &'static str) -> Self {
        Self { text: text.into(), stops: Some(stops) }
    }
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        let is_endless = matches!(error, StageError::Deadline { .. });
        Self { text: error.to_string(), stops: is_endless.then_some("a call ran past its deadline above") }
    }
}

/// With what input an error came.
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
    fn what_runs_without_end_is_tried_once() {
        let mut suite = Suite::default();
        let endless = || Err(Problem::last("endless", "it has no end"));
        suite.check("one", "", || Err(Problem::new("wrong")));
        suite.check("two", "", endless);
        suite.check("three", "", || unreachable!("it would take as long"));
        let outcomes: Vec<_> = suite.findings.iter().map(|finding| &finding.outcome).collect();
        assert!(matches!(outcomes[..], [Outcome::Failed(_), Outcome::Failed(_), Outcome::Skipped(_)]));
        assert!(suite.has_failed());
    }
}
