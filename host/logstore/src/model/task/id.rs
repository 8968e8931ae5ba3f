//! Task ids.

use std::fmt;
use std::str::FromStr;

use crate::error::StoreError;

/// The unique id of a task: its creation time and a random number. The name of its object ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The creation time, in nanoseconds since the Unix epoch.
    pub created: u64,
    /// A random number.
    pub number: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.created, self.number)
    }
}

impl FromStr for TaskId {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parsed = text.split_once('_').and_then(|(created, number)| {
            // SQLite stores signed integers, so greater numbers can't be ids.
            let parse = |digits: &str| digits.parse::<i64>().ok()?.try_into().ok();
            Some(Self { created: parse(created)?, number: parse(number)? })
        });
        parsed.ok_or_else(|| StoreError::NoTask(text.into()))
    }
}
