//! The `logship` program.
//!
//! # Layout
//! - [`commands`]: the command line, one file per command.
//! - [`input`]: reads files of logs as they are found on disks, for `logship ship` and `put`.
//! - [`file_ship`]: ships them, for `logship ship`.
//! - [`function_stages`]: stages for the imports of functions, for `logship function serve`.
//! - [`allocator`]: gives memory back when the program is idle.
//! - `print`: standard output and standard error. `log_queue`: the log's way to standard error.
//! - `table`: tables for people.

// They panic when nobody reads them: `print` has macros in their place.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod allocator;
pub mod commands;
pub mod file_ship;
pub mod function_stages;
pub mod input;
mod log_queue;
mod print;
mod table;
