//! Recorded changes of stage aliases.

use std::fmt;

/// A kind of change of an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageAction {
    /// Adds a version.
    Add,
    /// Points the alias at another version.
    Swap,
    /// Points the alias back at its previous version.
    Rollback,
    /// Pins the alias to its current version.
    Pin,
    /// Unpins the alias.
    Unpin,
    /// Removes a version or the alias.
    Remove,
}

impl StageAction {
    /// Returns the stored form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Swap => "swap",
            Self::Rollback => "rollback",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for StageAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A recorded change of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEvent {
    /// The id. Ids increase over the events of all aliases.
    pub id: i64,
    /// The [`StageAction`], in its stored form.
    pub action: String,
    /// The version concerned; empty for the built-in stage.
    pub version: String,
    /// The digest of the version; `None` for the built-in stage.
    pub digest: Option<String>,
    /// The time, in Unix microseconds.
    pub at: u64,
    /// The user who made the change.
    pub by: String,
    /// The event that set the previous version; `None` for the built-in stage.
    pub previous: Option<i64>,
}
