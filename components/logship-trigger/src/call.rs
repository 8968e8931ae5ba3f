//! What a call is about.

use std::fmt;
use std::str::FromStr;

use crate::digest::{DIGEST, Digest};
use crate::problem::Problem;
use crate::rule::{SPEC, Spec};

/// The headers of a call, or the members of an announcement.
#[derive(Debug, Clone)]
pub struct Call {
    /// The rule that the batch is shipped by.
    pub rule: String,
    /// The task: an object's key has it, so that a call that is repeated writes the same one.
    pub task: TaskId,
    /// The shard that the logs are from.
    pub shard: u32,
    /// The cursors of the logs, as the caller writes them; told on.
    pub range: String,
    /// The project of the logstore; may be empty.
    pub project: String,
    /// The logstore; may be empty.
    pub logstore: String,
    /// A presigned URL that the object is to be put to, for rules that deliver so.
    pub put_url: Option<String>,
    /// What the object is to be like.
    pub spec: Spec,
    /// The key that it is to have, where the caller knows it: under another one it would be somebody else's.
    pub key: Option<String>,
    /// What the caller checks the object by, if it gets it.
    pub digest: Digest,
}

/// The id of a task: when it was created, in nanoseconds since the Unix epoch, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId {
    /// The time.
    pub created: u64,
    /// The number.
    pub number: u64,
}

impl TaskId {
    /// The time as a log has it: Unix seconds, and nanoseconds within the second.
    pub fn created_time(self) -> (u32, u32) {
        ((self.created / 1_000_000_000).try_into().unwrap_or(u32::MAX), (self.created % 1_000_000_000) as u32)
    }
}

impl FromStr for TaskId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (created, number) = text.split_once('_').ok_or(())?;
        let read = |text: &str| text.parse::<u64>().map_err(drop);
        let id = Self { created: read(created)?, number: read(number)? };
        // Read as it is written, so that one task has one id. A time is an i64 of nanoseconds elsewhere.
        if id.to_string() == text && i64::try_from(id.created).is_ok() { Ok(id) } else { Err(()) }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.created, self.number)
    }
}

/// The header with the task's id.
pub const TASK: &str = "x-logship-task";
/// The header with the shard's number.
pub const SHARD: &str = "x-logship-shard";
/// The header with the cursors.
pub const RANGE: &str = "x-logship-range";
/// The header with the project.
pub const PROJECT: &str = "x-logship-project";
/// The header with the logstore.
pub const LOGSTORE: &str = "x-logship-logstore";
/// The header with the key of the object.
pub const KEY: &str = "x-logship-key";
/// The header with a presigned URL.
pub const PUT_URL: &str = "x-logship-put-url";

impl Call {
    /// A call that says nothing but its rule and its task.
    pub fn of(rule: &str, task: TaskId) -> Self {
        Self {
            rule: rule.to_owned(),
            task,
            shard: 0,
            range: String::new(),
            project: String::new(),
            logstore: String::new(),
            put_url: None,
            spec: Spec::default(),
            key: None,
            digest: Digest::default(),
        }
    }

    /// Reads what a call is about; `member` has each by its header's name.
    ///
    /// # Errors
    /// When the task or the shard is missing, or not what it should be.
    pub fn read(rule: &str, member: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let task = member(TASK).ok_or_else(|| {
            Problem::bad_call(format!(
                "{TASK} is missing: the task's id, CREATED_NUMBER; a call that is repeated must have the same"
            ))
        })?;
        let wrong = || {
            Problem::bad_call(format!(
                "{TASK} is {task:?}: say CREATED_NUMBER, the time in nanoseconds since 1970 and a number, as in 1760000089123456789_4711"
            ))
        };
        let shard = member(SHARD).unwrap_or_else(|| "0".into());
        Ok(Self {
            shard: shard
                .parse()
                .map_err(|_| Problem::bad_call(format!("{SHARD} is {shard:?}: say the shard's number")))?,
            range: member(RANGE).unwrap_or_default(),
            project: member(PROJECT).unwrap_or_default(),
            logstore: member(LOGSTORE).unwrap_or_default(),
            put_url: member(PUT_URL),
            spec: Spec::read(member(SPEC))?,
            key: member(KEY),
            digest: Digest::read(member(DIGEST).as_deref())?,
            ..Self::of(rule, task.parse().map_err(|()| wrong())?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_one_id() {
        let id: TaskId = "1760000089123456789_4711".parse().unwrap();
        assert_eq!(id.created_time(), (1_760_000_089, 123_456_789));
        for text in
            ["", "_", "1", "01_2", "1_+2", "1_2_3", "99999999999999999999_1", "18446744073709551615_1"]
        {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
