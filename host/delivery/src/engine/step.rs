//! Points at which tests abort the process.

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
    /// The result of the task is on disk.
    Settled,
}
