//! Ids of tasks.

use std::fmt;
use std::str::FromStr;

use crate::error::StoreError;

/// The unique id of a task: when it was created, and a number. The end of its object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// In nanoseconds since the Unix epoch.
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
            // What SQLite can't count is none of ours.
            let number_of = |digits: &str| digits.parse::<i64>().ok()?.try_into().ok();
            Some(Self { created: number_of(created)?, number: number_of(number)? })
        });
        parsed.ok_or_else(|| StoreError::NoTask(text.into()))
    }
}
