//! The results of the checks, as text and as JUnit XML.

use std::fmt::{self, Display};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

/// The results of all checks of one component.
#[derive(Debug, Clone)]
pub struct Report {
    /// Path or name of the component.
    pub origin: String,
    /// Kind, name, version and digest of the stage. `None` if it could not be loaded.
    pub stage: Option<String>,
    /// The checks, in the order in which they ran.
    pub findings: Vec<Finding>,
}

/// The result of one check.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The check's name: lowercase words separated by `-`, the same in every version. Checks of a pipeline's
    /// renderer begin with `renderer/`.
    pub check: String,
    /// The sentence of the contract that the check is based on.
    pub contract: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    /// Duration of the check.
    pub time: Duration,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The stage complies with the contract. Contains the measured result.
    Passed(String),
    /// The stage violates the contract. Contains the input and the result.
    Failed(String),
    /// The check did not run. Contains the reason.
    Skipped(String),
}

impl Report {
    /// True if no check failed.
    pub fn passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// Returns the names of the failed checks.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        let failed = |finding: &&Finding| matches!(finding.outcome, Outcome::Failed(_));
        self.findings.iter().filter(failed).map(|finding| &*finding.check)
    }

    /// Returns the report in Jenkins' JUnit format, which build servers read: one test case per check.
    ///
    /// # Errors
    /// If it can't be written as XML.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut suite = TestSuite::new(&*self.origin);
        suite.set_time(self.findings.iter().map(|finding| finding.time).sum());
        suite.add_properties(self.stage.iter().map(|stage| Property::new("stage", &**stage)));
        suite.add_test_cases(self.findings.iter().map(|finding| {
            let mut case = TestCase::new(&*finding.check, status(finding));
            case.set_classname("logship stage check").set_time(finding.time);
            if let Outcome::Passed(seen) = &finding.outcome {
                case.set_system_out(&**seen);
            }
            case
        }));
        let mut report = quick_junit::Report::new("logship stage check");
        report.add_test_suite(suite).to_string()
    }
}

fn status(finding: &Finding) -> TestCaseStatus {
    let mut status = match finding.outcome {
        Outcome::Passed(_) => return TestCaseStatus::success(),
        Outcome::Failed(_) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Skipped(_) => TestCaseStatus::skipped(),
    };
    status.set_message(finding.outcome.text());
    if let Outcome::Failed(_) = finding.outcome {
        status.set_type(&*finding.check).set_description(format!("The contract says: {}", finding.contract));
    }
    status
}

impl Outcome {
    fn text(&self) -> &str {
        match self {
            Self::Passed(text) | Self::Failed(text) | Self::Skipped(text) => text,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.origin, self.stage.as_deref().unwrap_or("no stage"))?;
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { check, contract, outcome, .. } in &self.findings {
            let word = match outcome {
                Outcome::Passed(_) => "ok",
                Outcome::Failed(_) => "FAIL",
                Outcome::Skipped(_) => "skip",
            };
            // Indents further lines, such as those of an interface difference.
            let text = outcome.text().replace('\n', "\n        ");
            writeln!(f, "  {word:<4}  {check:<width$}  {text}")?;
            if let Outcome::Failed(_) = outcome {
                writeln!(f, "        The contract says: {contract}")?;
            }
        }
        let count = |is: fn(&Outcome) -> bool| self.findings.iter().filter(|one| is(&one.outcome)).count();
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        let passed = self.findings.len() - failed - skipped;
        write!(f, "{passed} checks passed, {failed} failed, {skipped} skipped")
    }
}
