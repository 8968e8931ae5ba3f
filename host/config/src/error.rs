//! Errors of settings.

use std::path::PathBuf;

use crate::limit::Limit;

/// An error in the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file's content is invalid.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line and the error.
        problem: String,
    },
    /// A setting is out of its range.
    #[error("{name} = {value} is out of range: {allowed}")]
    Range {
        /// The setting.
        name: &'static str,
        /// The value.
        value: u64,
        /// The allowed range.
        allowed: String,
    },
    /// An entry of `allow-wasi` is invalid.
    #[error("stages.allow-wasi: {0:?} is invalid: use a stage name, or `sha256:` and 64 hexadecimal digits")]
    AllowWasi(String),
    /// A scope belongs to nothing.
    #[error(
        "scopes.{0}: the settings define no destination, receiver or data source of this name: correct the name"
    )]
    Scope(String),
    /// A data source is invalid.
    #[error("sources.{name}: {source}")]
    Source {
        /// The name.
        name: String,
        /// The invalid value.
        source: SourceError,
    },
    /// A destination is invalid.
    #[error("destinations.{name}: {problem}")]
    Destination {
        /// The destination's name.
        name: String,
        /// The invalid setting and the reason.
        problem: String,
    },
}

/// Why a data source is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A value is invalid.
    #[error("{field} {problem}")]
    Field {
        /// The name of the value.
        field: &'static str,
        /// The problem, and what to use instead.
        problem: String,
    },
    /// The text is no data source.
    #[error("{0}")]
    Content(String),
}

impl SourceError {
    pub(crate) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Field { field, problem: problem.into() }
    }
}

/// Returns the line and the problem of TOML that can't be parsed. The parser's full message shows the line itself, which
/// may have a secret.
pub fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    format!("line {}: {}", line_of(text, error), error.message())
}

/// Returns the line of an error in TOML; 0 if it has none.
pub(crate) fn line_of(text: &str, error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1)
}

/// Checks the range of a setting.
pub(crate) fn within(name: &'static str, value: u64, limit: Limit) -> Result<(), ConfigError> {
    if limit.contains(value) {
        return Ok(());
    }
    Err(ConfigError::Range { name, value, allowed: limit.to_string() })
}
