//! Steps of a resend at which tests abort the process, in builds with the feature `failpoints` only.

/// A point between two steps of a resend. Tests abort the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResendStep {
    /// The upload session is on disk.
    SessionSaved,
    /// The session has its block.
    BlockUploaded,
    /// The intent to commit is on disk.
    CommitBegun,
    /// The session is committed, which is not on disk.
    Committed,
    /// That it is committed is on disk.
    CommitSaved,
    /// The letters that are dirty again are on disk.
    RestSaved,
    /// The object of dead letters is replaced.
    LettersReplaced,
}

impl ResendStep {
    /// Aborts the process, as a crash would, if the variable `FAILPOINT` names this step. Builds without the feature
    /// `failpoints` have no such code.
    pub(super) fn reached(self) {
        #[cfg(feature = "failpoints")]
        crate::engine::abort_at(&format!("Resend{self:?}"));
    }
}
