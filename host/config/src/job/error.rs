//! Errors of jobs.

use std::fmt;

/// An error in a job, in its script or in a value of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The script is not a valid job.
    #[error("{file}: {problem}")]
    Script {
        /// The file.
        file: String,
        /// The problem, with its line.
        problem: String,
    },
    /// A member has an invalid value.
    #[error("{member}: {problem}")]
    Member {
        /// The member, such as `writer.partition`.
        member: String,
        /// The problem, and what to do.
        problem: String,
    },
}

impl JobError {
    /// Returns a [`JobError::Member`].
    pub fn member(member: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::Member { member: member.into(), problem: problem.to_string() }
    }

    /// Prefixes the problem of a member with another member, which contains it.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Member { member, problem } if member.is_empty() => {
                Self::Member { member: outer.into(), problem }
            }
            Self::Member { member, problem } => Self::Member { member: format!("{outer}.{member}"), problem },
            script => script,
        }
    }
}
