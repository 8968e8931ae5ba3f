//! The state of a backup.

use std::path::PathBuf;

use serde::Serialize;

/// A backup that runs, or the last one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupState {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// `running`, `done` or `failed`.
    pub(crate) status: &'static str,
    /// The reason of the failure.
    pub(crate) message: String,
    /// The bytes in all files.
    pub(crate) bytes: u64,
}
