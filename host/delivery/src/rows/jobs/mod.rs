//! Jobs: rows of a time range, written to a table in one upload session.
//!
//! # Layout
//! - [`target`], [`plan`]: the window and the place of a run, and everything else that decides its rows. `planner` makes
//!   plans.
//! - [`blocks`], [`destination`]: where blocks of rows come from, and where they go. [`encoder`]: blocks of the store's
//!   logs. `remote`: logs of other services.
//! - `attempt`: an attempt of a run; `progress` and `rate`: its progress and its speed. `step`: points at which tests
//!   abort the process.
//! - [`schedule`]: due runs. `runner`: runs them. `unread`: the logs that they have not read, which retention keeps.
//! - `run_table`: the table of a run, for its dirty rows.
//! - [`requests`]: what clients ask for. `duplicates`: rows that would be appended twice. [`preview`] and [`ddl`]: parts of it. [`error`]: errors of runs.

mod attempt;
pub mod blocks;
pub mod ddl;
pub mod destination;
mod duplicates;
pub mod encoder;
pub mod error;
pub mod plan;
mod planner;
pub mod preview;
pub mod progress;
mod rate;
mod remote;
pub mod requests;
pub(crate) mod run_table;
mod runner;
pub mod schedule;
mod step;
pub mod target;
mod unread;

#[cfg(test)]
mod tests;

pub use error::RunError;
pub use runner::{Jobs, RunningJobs};
