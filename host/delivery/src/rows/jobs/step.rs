//! Steps of a run at which tests abort the process, in builds with the feature `failpoints` only.

/// A point between two steps of a run. Tests abort the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunStep {
    /// The plan is on disk.
    PlanSaved,
    /// The session is open, and not on disk.
    SessionCreated,
    /// The session is on disk.
    SessionSaved,
    /// The session has a block that is not on disk.
    BlockUploaded,
    /// The block is on disk.
    BlockSaved,
    /// The intent to commit is on disk.
    CommitBegun,
    /// The session is committed, which is not on disk.
    Committed,
}

impl RunStep {
    /// Aborts the process, as a crash would, if the variable `FAILPOINT` names this step. Builds without the feature
    /// `failpoints` have no such code.
    pub(super) fn reached(self) {
        #[cfg(feature = "failpoints")]
        crate::engine::abort_at(&format!("Run{self:?}"));
    }
}
