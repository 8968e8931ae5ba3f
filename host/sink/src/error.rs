//! The errors of all sinks.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The bucket does not exist, or is in another region.
    #[error("{0}")]
    NoBucket(String),
    /// The credentials are invalid, or lack the permission.
    #[error("{0}")]
    Denied(String),
    /// The key belongs to another object.
    #[error(
        "{0} already exists and was not overwritten. Keys must be unique: include the time and the number of the task, or choose another prefix"
    )]
    Exists(String),
    /// The disk is full.
    #[error("no space left to write {}. No partial object remains", .0.display())]
    Full(PathBuf),
    /// Another I/O error.
    #[error("can't write {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The settings of a destination are invalid.
    #[error("destination: {0}")]
    Settings(String),
    /// A setting of a receiver is invalid.
    #[error("receiver: {setting}: {problem}")]
    ReceiverSetting {
        /// The setting.
        setting: &'static str,
        /// The problem, and the valid values.
        problem: String,
    },
    /// A field of a rule does not fit its destination.
    #[error("rule: {field}: {problem}")]
    RuleField {
        /// The field.
        field: &'static str,
        /// The problem, and the valid values.
        problem: String,
    },
    /// The sink is unreachable or has an internal error.
    #[error("{0}")]
    Unavailable(String),
    /// A function delivered the object to a store that the settings don't name.
    #[error(
        "can't read the object: {0} delivered it to a store that this service does not know. Set `store` in the destination's settings"
    )]
    UnknownStore(String),
}

impl SinkError {
    /// Converts an I/O error at a path.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists(path.display().to_string()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(format!("can't write {}: {source}", path.display()))
            }
            _ => Self::Io { path, source },
        }
    }

    /// Returns a [`ReceiverSetting`](Self::ReceiverSetting).
    pub(crate) fn receiver(setting: &'static str, problem: impl fmt::Display) -> Self {
        Self::ReceiverSetting { setting, problem: problem.to_string() }
    }

    /// Returns a [`RuleField`](Self::RuleField).
    pub(crate) fn rule(field: &'static str, problem: impl fmt::Display) -> Self {
        Self::RuleField { field, problem: problem.to_string() }
    }

    /// Returns the corresponding error code of Log Service.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoBucket(_) => "InvalidOssBucket",
            Self::Denied(_) => "UnAuthorized",
            _ => "InternalServerError",
        }
    }
}
