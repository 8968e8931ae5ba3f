//! The stage that fails all tasks of a rule.

/// The stage in which the last tasks of a rule all failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingStage {
    /// The digest of the stage.
    pub stage: String,
    /// The error of the latest failure.
    pub message: String,
}
