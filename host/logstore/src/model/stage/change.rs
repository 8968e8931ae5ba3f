//! Requested changes of stage aliases.

use super::StageAction;

/// A change of an alias. `None` leaves a property as it is.
#[derive(Debug, Clone)]
pub struct StageChange {
    /// The name of the alias.
    pub name: String,
    /// The kind of change.
    pub action: StageAction,
    /// The kind of stage, for a new alias.
    pub kind: String,
    /// The user who makes the change.
    pub by: String,
    /// The expected current event. If it differs, the change fails.
    pub expected: Option<i64>,
    /// A version to add.
    pub version: Option<NewStageVersion>,
    /// The new target.
    pub target: Option<StageTarget>,
    /// True to pin the alias, false to unpin it.
    pub pinned: Option<bool>,
}

/// A version to add.
#[derive(Debug, Clone)]
pub struct NewStageVersion {
    /// The name of the version. If another component has it already, a part of the digest is appended.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The size of the component, in bytes.
    pub size: u64,
    /// The origin: a file or a registry.
    pub source: String,
}

/// A new target of an alias.
#[derive(Debug, Clone)]
pub struct StageTarget {
    /// The digest of the version; `None` means the built-in stage.
    pub digest: Option<String>,
    /// The event of the version that a rollback restores.
    pub previous: Option<i64>,
    /// The digest of the replaced stage, also of a built-in one. Tasks that failed in it are retried.
    pub replaced: Option<String>,
}
