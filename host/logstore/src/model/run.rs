//! Runs of jobs.

use std::str::FromStr;

use serde_json::Value;

/// A run to create.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// The scheduled time, in Unix seconds.
    pub scheduled: u64,
    /// The cause of the run.
    pub trigger: RunTrigger,
    /// The values of parameters that override the job's, as JSON.
    pub parameters: Value,
    /// The plan, if it is known already: a rerun makes the same rows.
    pub plan: Option<String>,
}

/// A run of a job: a time range whose rows become visible together, once.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRun {
    /// The number. Numbers are never reused.
    pub id: i64,
    /// The number of the job.
    pub job: i64,
    /// The project.
    pub project: String,
    /// The name of the job.
    pub job_name: String,
    /// The scheduled time, in Unix seconds.
    pub scheduled: u64,
    /// The cause of the run.
    pub trigger: RunTrigger,
    /// The state.
    pub state: RunState,
    /// The values of parameters that override the job's, as JSON.
    pub parameters: Value,
    /// The plan: everything that decides the rows, as JSON. `None` until the first attempt.
    pub plan: Option<String>,
    /// The upload session.
    pub session: Option<String>,
    /// True if the commit of the session may have been sent.
    pub is_committing: bool,
    /// The blocks of each shard that the session has, as JSON.
    pub progress: Option<String>,
    /// The number of attempts.
    pub attempts: u32,
    /// The number of failed attempts. Interrupted attempts do not count.
    pub failures: u32,
    /// The creation time, in Unix microseconds.
    pub created: u64,
    /// The start of the last attempt, in Unix microseconds; 0 before the first one.
    pub started: u64,
    /// The end of the run, in Unix microseconds; 0 until it ends.
    pub finished: u64,
    /// The time of the next attempt, in Unix microseconds.
    pub next_attempt: Option<u64>,
    /// The error code.
    pub code: String,
    /// The error message.
    pub message: String,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// The state: [`RunState::Waiting`] if the run is attempted again.
    pub state: RunState,
    /// The error code; empty after a success.
    pub code: String,
    /// The error message.
    pub message: String,
    /// The time of the next attempt, in Unix microseconds.
    pub next_attempt: Option<u64>,
}

/// The cause of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunTrigger {
    /// The schedule.
    Schedule,
    /// A request.
    Manual,
    /// A request for many scheduled times.
    Backfill,
    /// A request to run again.
    Rerun,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It waits for its turn, or for its next attempt.
    Waiting,
    /// It runs.
    Running,
    /// Its rows are visible.
    Success,
    /// It failed, and nothing is visible.
    Failed,
    /// It was stopped, and nothing is visible.
    Stopped,
    /// It is unknown whether its rows are visible: the answer of the commit was lost, and the session is gone.
    Unclear,
}

macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),+) => {
        impl $type {
            /// Returns the name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    other => Err(format!("{other:?} is none of {}", [$($name),+].join(", "))),
                }
            }
        }
    };
}

names!(RunTrigger: Schedule = "schedule", Manual = "manual", Backfill = "backfill", Rerun = "rerun");
names!(RunState: Waiting = "waiting", Running = "running", Success = "success", Failed = "failed", Stopped = "stopped", Unclear = "unclear");

impl RunState {
    /// Returns true if the run has not ended.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}
