//! The status of a task.

use std::str::FromStr;

/// The status of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The task is running or queued.
    Running,
    /// Its objects are at their destination.
    Success,
    /// The last attempt failed; the task may be retried.
    Failed,
}

impl Status {
    /// Returns the stored form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "fail",
        }
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "running" => Ok(Self::Running),
            "success" => Ok(Self::Success),
            "fail" => Ok(Self::Failed),
            _ => Err(()),
        }
    }
}

/// The error code of tasks whose rule was deleted.
pub const CONFIG_NOT_EXIST: &str = "ConfigNotExist";
