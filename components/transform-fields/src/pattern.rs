use logship_stage::{Error, Result};
use regex::bytes::Regex;

/// Compiles a pattern. `path` is its configuration key.
///
/// # Errors
/// If the pattern is invalid.
pub(crate) fn compile(path: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        // The message has several lines with the pattern and a marker; the last line has the reason.
        let text = error.to_string();
        let reason = text.rsplit("error: ").next().unwrap_or(&text).trim();
        Error::config(path, format!("the pattern '{pattern}' is invalid: {reason}"))
    })
}
