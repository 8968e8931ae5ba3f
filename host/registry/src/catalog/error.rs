//! Why a change of the catalog is rejected.

use logship_logstore::StoreError;
use logship_runtime::stage::StageError;

/// Why a name was not changed. On an error, nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The component is not usable.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The store failed, or somebody else changed the name first.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is invalid.
    #[error(
        "stage name {0:?} is invalid: use 1-63 characters of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit"
    )]
    Name(String),
    /// No stage has the name.
    #[error("no stage is called {0}; `logship stage list` shows all names")]
    Unknown(String),
    /// The component's kind differs from the name's.
    #[error("{name} is {} {expected}, but {stage} is {} {found}", article(expected), article(found))]
    Kind {
        /// The name.
        name: String,
        /// The component.
        stage: String,
        /// The component's kind.
        found: String,
        /// The name's kind.
        expected: String,
    },
    /// A rule that uses the name can't run with the component.
    #[error("rule {rule} uses {name} and can't run with {stage}: {problem}")]
    RuleFails {
        /// The name.
        name: String,
        /// The component.
        stage: String,
        /// The rule.
        rule: String,
        /// The reason.
        problem: String,
    },
    /// The name is pinned.
    #[error("{name} is pinned to {version}; unpin it first: `logship stage pin {name} --off`")]
    Pinned {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// The name has no previous version.
    #[error("{0} has no previous version to roll back to")]
    NoPrevious(String),
    /// The version is the current one.
    #[error("{version} is the current version of {name}; swap {name} to another version first")]
    Current {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// Rules use the name or version.
    #[error("{name} is used by {}", by.join(", "))]
    InUse {
        /// The name, or `NAME@VERSION`.
        name: String,
        /// The rules.
        by: Vec<String>,
    },
    /// The name is that of an unchanged built-in stage.
    #[error("{0} is a built-in stage and can't be removed")]
    BuiltIn(String),
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}
