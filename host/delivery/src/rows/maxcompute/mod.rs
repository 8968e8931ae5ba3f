//! Rows of MaxCompute: rules that write a Logstore's logs to the partitions of a table.
//!
//! A task has an upload session for each partition of its logs. Nothing is visible before a session is committed.
//!
//! | on disk | then |
//! |---|---|
//! | the task: its range, its plan | the schema of the table is read |
//! | the schema, and the id of each session | blocks are uploaded: functions of the range, the plan and the schema |
//! | the manifest: rows and bytes of each partition | |
//! | that a commit begins | the session is committed |
//! | that it is committed | the task succeeds |
//!
//! A retry uploads only blocks that a session lacks. A commit whose answer was lost is found out by reading the session.
//! If that is gone, and a commit was sent, the task fails and says what to check.
//!
//! - `rule`: the kind of work of the engine. `plan`: its plans. `sessions`: the sessions of a task, as they are stored.
//! - `blocks`: logs become blocks of partitions. `upload`: blocks go to sessions. `commit`: sessions are committed.
//! - `route`: the partition of a log. `preview`: blocks of past tasks, made with another stage.
//!   `rule_table`: the table of a rule, for its dirty rows. `error`: errors as the engine records them.

mod blocks;
mod commit;
mod error;
mod plan;
mod preview;
pub(crate) mod route;
mod rule;
pub(crate) mod rule_table;
mod sessions;
mod upload;

pub use self::rule::MaxComputeRows;
pub(crate) use self::sessions::SessionState;
