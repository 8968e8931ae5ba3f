//! Synchronization jobs: a time range of a Logstore becomes rows of a MaxCompute table.
//!
//! # Layout
//! - [`script`]: the script, in JSON with comments or in TOML. [`Job`] is its content.
//! - [`mapping`]: the columns. [`template`]: texts with parameters. [`expression`]: scheduling expressions.
//! - [`schedule`]: the times at which a job runs. [`error`]: [`JobError`].

mod comments;
pub mod error;
pub mod expression;
pub mod mapping;
mod number;
pub mod schedule;
pub mod script;
pub mod template;

pub use error::JobError;
pub use script::{ErrorLimit, Job, Reader, Writer};

/// The longest name of a job, in characters.
pub const NAME_LENGTH: usize = 60;

/// Checks the name of a job: letters, digits, `_` and `-`, with a letter or `_` in front.
///
/// # Errors
/// If the name is invalid.
pub fn check_name(name: &str) -> Result<(), JobError> {
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    let is_valid = (1..=NAME_LENGTH).contains(&name.len())
        && name.starts_with(is_first)
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'));
    if is_valid {
        return Ok(());
    }
    let syntax = "letters, digits, `_` and `-`, and begin with a letter or `_`";
    Err(JobError::member("name", format!("{name:?} is invalid: use 1 to {NAME_LENGTH} {syntax}")))
}
