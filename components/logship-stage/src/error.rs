use std::fmt::Display;

/// Why a stage refused: the union of what the interfaces of `wit/` can say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong. Trying again can't help until the rule is changed.
    #[error("{}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
    InvalidConfig {
        /// Path of the offending member, such as `columns[2].type`; empty for the text as a whole.
        path: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The batch breaks an invariant of `log-batch`: a defect of the host.
    #[error("invalid batch: {0}")]
    InvalidBatch(String),
    /// The format can't hold this log.
    #[error("log {log} of the batch: {reason}")]
    Rejected {
        /// Its index in the batch.
        log: u32,
        /// Why, and what would be right.
        reason: String,
    },
    /// The object has outgrown what the format or the stage can hold.
    #[error("{0}")]
    TooLarge(String),
}

impl Error {
    /// An [`Error::InvalidConfig`] at `path`.
    pub fn config(path: impl Into<String>, reason: impl Display) -> Self {
        Self::InvalidConfig { path: path.into(), reason: reason.to_string() }
    }
}

/// What a stage's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
