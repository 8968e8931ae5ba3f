use logship_stage::{Error, Result};
use regex::bytes::Regex;

/// A pattern as a regular expression. `path` is the member of the configuration that has it.
///
/// # Errors
/// When it can't be read.
pub(crate) fn compile(path: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        // Of several lines, with the pattern and a mark below it, the last one says what is wrong.
        let text = error.to_string();
        let reason = text.rsplit("error: ").next().unwrap_or(&text).trim();
        Error::config(path, format!("the pattern '{pattern}' can't be read: {reason}"))
    })
}
