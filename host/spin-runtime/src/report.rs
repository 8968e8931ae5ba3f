//! The result of a check: the problems of an application.

use std::path::PathBuf;

/// A problem of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the manifest.
    pub line: Option<usize>,
    /// The problem, and its fix.
    pub text: String,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// The problems that prevent a start, or fail calls.
    pub problems: Vec<Problem>,
    /// Advice about settings that work.
    pub advice: Vec<Problem>,
    /// The components that need [`LEAST_SPIN`](crate::check::LEAST_SPIN).
    pub needs_least_spin: Vec<PathBuf>,
}

impl Report {
    pub(crate) fn add(&mut self, line: Option<usize>, text: impl Into<String>) {
        self.problems.push(Problem { line, text: text.into() });
    }

    pub(crate) fn advise(&mut self, line: Option<usize>, text: String) {
        self.advice.push(Problem { line, text });
    }
}
