//! Deleted logstores and projects that can still be restored.

use std::sync::Arc;

use super::Logstore;

/// A deleted logstore.
#[derive(Debug, Clone)]
pub struct DeletedLogstore {
    /// The name of its project.
    pub project: String,
    /// The name.
    pub name: String,
    /// The time of its deletion, in Unix seconds.
    pub deleted: u64,
    /// True if the project was deleted with it.
    pub with_project: bool,
    /// The logstore, under a name that no client can choose.
    pub(crate) logstore: Arc<Logstore>,
}

/// A deleted project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedProject {
    /// The row of the project.
    pub(crate) row: i64,
    /// The name.
    pub name: String,
    /// The time of its deletion, in Unix seconds.
    pub deleted: u64,
}
