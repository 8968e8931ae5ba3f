//! Where tests end the process.

/// The moments between two writes of a task: tests end the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is on disk.
    Begun,
    /// Its range is what it will be, as a function needs it.
    Cut,
    /// Its objects are in files without a name.
    Made,
    /// What those files hash to is on disk.
    Sealed,
    /// One of several objects is at its destination, and others are not.
    Partly,
    /// The objects are at their destination.
    Published,
    /// That is on disk, too.
    Settled,
}
