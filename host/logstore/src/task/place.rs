//! Places in a shard.

use std::fmt;

/// A place between two logs of a shard: before log number `log` of the log group at `cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The position of the log group.
    pub cursor: u64,
    /// Logs of it that are before the place.
    pub log: u32,
}

impl Place {
    /// Before the log group at `cursor`.
    pub fn at(cursor: u64) -> Self {
        Self { cursor, log: 0 }
    }

    /// The position behind the last log group that has a log before the place.
    pub fn behind(self) -> u64 {
        self.cursor + u64::from(self.log > 0)
    }
}

/// `CURSOR`, or `CURSOR+LOGS` within a log group.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            0 => write!(formatter, "{}", self.cursor),
            log => write!(formatter, "{}+{log}", self.cursor),
        }
    }
}
