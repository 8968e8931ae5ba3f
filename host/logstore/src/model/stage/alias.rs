//! Stage aliases and the versions of their stages.

use std::collections::BTreeMap;

use super::StageEvent;

/// A snapshot of all stage aliases.
#[derive(Debug, Default)]
pub struct StageAliases {
    /// The revision: it grows with every change.
    pub revision: i64,
    /// The aliases by name. Other names refer to built-in stages.
    pub aliases: BTreeMap<String, StageAlias>,
}

/// An alias that points to one of several versions of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageAlias {
    /// The kind of the stage. The store does not interpret it.
    pub kind: String,
    /// True if the alias is pinned to its current version.
    pub pinned: bool,
    /// The event that set the current version. `None` means the built-in stage.
    pub current: Option<StageEvent>,
    /// The versions, the oldest first.
    pub versions: Vec<StageVersion>,
}

/// A version of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageVersion {
    /// The name of the version.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The size of the component, in bytes.
    pub size: u64,
    /// The origin: a file or a registry.
    pub source: String,
    /// The user who added it.
    pub by: String,
    /// The time of the addition, in Unix microseconds.
    pub added: u64,
}

impl StageAliases {
    /// Returns the digest that an alias points to. Returns `None` for a built-in stage or an unknown name.
    pub fn current(&self, name: &str) -> Option<&str> {
        self.aliases.get(name)?.digest()
    }
}

impl StageAlias {
    /// Returns the digest that the alias points to. Returns `None` for the built-in stage.
    pub fn digest(&self) -> Option<&str> {
        self.current.as_ref()?.digest.as_deref()
    }

    /// Returns a version by its name or digest.
    pub fn version(&self, version_or_digest: &str) -> Option<&StageVersion> {
        self.versions
            .iter()
            .find(|known| known.version == version_or_digest || known.digest == version_or_digest)
    }
}
