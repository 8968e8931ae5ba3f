use std::fmt::Display;

/// A stage's error: the union of the error variants of the interfaces in `wit/`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid. A retry fails until the rule is changed.
    #[error("{}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
    InvalidConfig {
        /// Path of the invalid key, such as `columns[2].type`; empty for the whole text.
        path: String,
        /// The problem, and how to fix it.
        reason: String,
    },
    /// The table has a column that the row encoder or its configuration does not support.
    #[error("the table: {}{reason}", if column.is_empty() { String::new() } else { format!("column {column}: ") })]
    InvalidTable {
        /// The column's name; empty for the whole table.
        column: String,
        /// The problem, and how to fix it.
        reason: String,
    },
    /// The batch breaks an invariant of `log-batch`: a bug in the host.
    #[error("invalid batch: {0}")]
    InvalidBatch(String),
    /// The format cannot represent this log.
    #[error("log {log} of the batch: {reason}")]
    Rejected {
        /// The log's index in the batch.
        log: u32,
        /// The problem, and how to fix it.
        reason: String,
    },
    /// The object exceeds a limit of the format or the stage.
    #[error("{0}")]
    TooLarge(String),
}

impl Error {
    /// Returns an [`Error::InvalidConfig`] for the key at `path`.
    pub fn config(path: impl Into<String>, reason: impl Display) -> Self {
        Self::InvalidConfig { path: path.into(), reason: reason.to_string() }
    }

    /// Returns an [`Error::InvalidTable`] for a column.
    pub fn table(column: impl Into<String>, reason: impl Display) -> Self {
        Self::InvalidTable { column: column.into(), reason: reason.to_string() }
    }

    /// Returns the path of the invalid key and the reason, for kinds of stages that have no table.
    pub(crate) fn config_problem(self) -> (String, String) {
        match self {
            Self::InvalidConfig { path, reason } => (path, reason),
            other => (String::new(), other.to_string()),
        }
    }
}

/// The result of a stage's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
