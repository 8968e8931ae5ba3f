//! Steps of a task at which tests abort the process, in builds with the feature `failpoints` only.

/// A point between two writes of a task. Tests abort the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The task is on disk.
    Begun,
    /// The final range is on disk, before a function is called.
    RangeFixed,
    /// The output is in unnamed files.
    Made,
    /// The manifest is on disk.
    ManifestSaved,
    /// One of several objects is published.
    PartlyPublished,
    /// All objects are published.
    Published,
    /// An upload session is open, and not on disk yet.
    SessionOpened,
    /// An upload session is on disk.
    SessionSaved,
    /// A block is uploaded.
    BlockUploaded,
    /// All blocks are uploaded.
    BlocksUploaded,
    /// It is on disk that a commit begins.
    CommitSaved,
    /// A session is committed, which is not on disk yet.
    Committed,
    /// The result of the task is on disk.
    Settled,
}

impl Step {
    /// Aborts the process, as a crash would, if the variable `FAILPOINT` names this step. Builds without the feature
    /// `failpoints` have no such code.
    pub(crate) fn reached(self) {
        #[cfg(feature = "failpoints")]
        abort_at(&format!("{self:?}"));
    }
}

/// Aborts the process if the variable `FAILPOINT` names this step.
#[cfg(feature = "failpoints")]
pub(crate) fn abort_at(step: &str) {
    if std::env::var("FAILPOINT").is_ok_and(|name| name == step) {
        // Not through the log: its thread would not write the line before the abort.
        eprintln!(r#"{{"step":"{step}","message":"aborted by FAILPOINT"}}"#);
        std::process::abort();
    }
}
