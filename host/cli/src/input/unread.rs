//! Files that were not read, or not to their end.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::rejects::Rejects;

/// A file that was not read, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
    /// True if the file was passed over on purpose, as its name or its kind say that it has no new logs.
    pub is_intended: bool,
}

impl Unread {
    /// Creates the record of a file that can't be read.
    pub fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into(), is_intended: false }
    }

    /// Creates the record of a file that is passed over on purpose.
    pub fn intended(path: &Path, reason: impl Into<String>) -> Self {
        Self { is_intended: true, ..Self::new(path, reason) }
    }

    /// Returns the records as JSON: those that can't be read, or those passed over on purpose.
    pub fn to_json(list: &[Self], is_intended: bool) -> Value {
        let chosen = list.iter().filter(|unread| unread.is_intended == is_intended);
        chosen
            .map(|unread| json!({ "path": unread.path.to_string_lossy(), "reason": unread.reason }))
            .collect()
    }

    /// Returns lines for the user: a summary, and the first records.
    pub fn describe(list: &[Self]) -> Vec<String> {
        let part = |is_intended: bool, summary: fn(usize) -> String| {
            let chosen: Vec<_> = list.iter().filter(|unread| unread.is_intended == is_intended).collect();
            let more = chosen.len().saturating_sub(MAX_SHOWN);
            let mut lines: Vec<_> =
                chosen.iter().take(MAX_SHOWN).map(|unread| format!("  {unread}")).collect();
            lines.extend((more > 0).then(|| format!("  and {more} more")));
            if !chosen.is_empty() {
                lines.insert(0, summary(chosen.len()));
            }
            lines
        };
        let mut lines =
            part(false, |count| format!("warning: {} can't be read, or not to the end:", plural(count)));
        lines.extend(part(true, |count| format!("note: passed over {}:", plural(count))));
        lines
    }
}

/// The largest number of files that are shown.
const MAX_SHOWN: usize = 10;

fn plural(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// The input has no logs, although it is not empty.
#[derive(Debug, thiserror::Error)]
pub enum NotLogs {
    /// All lines were rejected.
    #[error("no line of the input is a log (rejected: {rejected}){looks}")]
    Rejected {
        /// The number of rejected lines.
        rejected: u64,
        /// A description of the lines, and the option that helps.
        looks: String,
    },
    /// No file could be read.
    #[error("no logs were read: no file of the input can be read; see the reasons above")]
    Unread,
}

impl NotLogs {
    /// Checks that something was a log, unless the input was empty.
    ///
    /// # Errors
    /// Fails if all lines were rejected, or no file could be read.
    pub fn check(logs: u64, unread: &[Unread], rejects: &Rejects) -> Result<(), Self> {
        let is_unread = unread.iter().any(|unread| !unread.is_intended);
        match (logs, rejects.count()) {
            (0, 0) if is_unread => Err(Self::Unread),
            (0, rejected @ 1..) => {
                let looks = rejects.looks().map(|looks| format!("; {looks}"));
                Err(Self::Rejected { rejected, looks: looks.unwrap_or_default() })
            }
            _ => Ok(()),
        }
    }
}
