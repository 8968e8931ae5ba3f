//! The `logship` program.
//!
//! # Layout
//! - [`commands`]: the command line, one file per command.
//! - [`file_ship`]: ships files of lines, for `logship ship`.
//! - [`function_stages`]: stages for the imports of functions, for `logship function serve`.
//! - `print`: standard output and standard error. `log_queue`: the log's way to standard error.
//! - `table`: tables for people.

pub mod commands;
pub mod file_ship;
pub mod function_stages;
mod log_queue;
mod print;
mod table;
