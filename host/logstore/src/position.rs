//! Positions between two logs of a shard.

use std::fmt;

/// A position between two logs of a shard: before the log with index `log` of the log group at `cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPosition {
    /// The position of the log group.
    pub cursor: u64,
    /// The number of logs of that group before the position.
    pub log: u32,
}

impl LogPosition {
    /// Returns the position before the log group at `cursor`.
    pub fn at(cursor: u64) -> Self {
        Self { cursor, log: 0 }
    }

    /// Returns the end cursor of a read up to this position: one past the last log group with a log before it.
    pub fn end_cursor(self) -> u64 {
        self.cursor + u64::from(self.log > 0)
    }
}

/// Formats as `CURSOR`, or as `CURSOR+LOGS` within a log group.
impl fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            0 => write!(formatter, "{}", self.cursor),
            log => write!(formatter, "{}+{log}", self.cursor),
        }
    }
}
