//! The parameters of a call.

use std::fmt;
use std::str::FromStr;

use crate::digest::{DIGEST, Digest};
use crate::problem::Problem;
use crate::rule::{SPEC, Spec};

/// The parameters of a call: its headers, or the fields of an announcement.
#[derive(Debug, Clone)]
pub struct Call {
    /// The rule that ships the batch.
    pub rule: String,
    /// The task. The object's key contains it, so that a retry writes the same key.
    pub task: TaskId,
    /// The logs' shard.
    pub shard: u32,
    /// The cursor range of the logs, in the caller's notation; passed on unchanged.
    pub range: String,
    /// The Logstore's project; may be empty.
    pub project: String,
    /// The Logstore; may be empty.
    pub logstore: String,
    /// The presigned URL for the object, for rules that deliver to a URL.
    pub put_url: Option<String>,
    /// The caller's settings for the object.
    pub spec: Spec,
    /// The object's expected key, if the caller knows it. Another key would belong to another object.
    pub key: Option<String>,
    /// The heads of the shard's hash chain before and after the logs, if the caller has such a chain.
    pub heads: Option<[String; 2]>,
    /// The digest by which the caller verifies a returned object.
    pub digest: Digest,
}

/// The id of a task: its creation time and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId {
    /// The creation time, in nanoseconds since the Unix epoch.
    pub created: u64,
    /// The number.
    pub number: u64,
}

impl TaskId {
    /// Returns the creation time as a log's time: Unix seconds, and nanoseconds within the second.
    pub fn created_time(self) -> (u32, u32) {
        ((self.created / 1_000_000_000).try_into().unwrap_or(u32::MAX), (self.created % 1_000_000_000) as u32)
    }
}

impl FromStr for TaskId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (created, number) = text.split_once('_').ok_or(())?;
        let parse = |text: &str| text.parse::<u64>().map_err(drop);
        let id = Self { created: parse(created)?, number: parse(number)? };
        // Only the canonical form is valid, so that a task has one id. Elsewhere a time is an i64 of nanoseconds.
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
/// The header with the Logstore.
pub const LOGSTORE: &str = "x-logship-logstore";
/// The header with the key of the object.
pub const KEY: &str = "x-logship-key";
/// The header with the head of the shard's hash chain before the logs.
pub const HEAD_BEFORE: &str = "x-logship-head-before";
/// The header with the head of the shard's hash chain after the logs.
pub const HEAD: &str = "x-logship-head";
/// The header with a presigned URL.
pub const PUT_URL: &str = "x-logship-put-url";

impl Call {
    /// Creates a call with a rule, a task and defaults.
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
            heads: None,
            digest: Digest::default(),
        }
    }

    /// Parses the parameters of a call. `header` returns the value of a header.
    ///
    /// # Errors
    /// If the task is missing, or if a parameter is invalid.
    pub fn read(rule: &str, header: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let task = header(TASK).ok_or_else(|| {
            Problem::bad_call(format!(
                "{TASK} is missing: send the task's id, CREATED_NUMBER; a retry must send the same id"
            ))
        })?;
        let invalid = || {
            Problem::bad_call(format!(
                "{TASK} {task:?} is invalid: send CREATED_NUMBER, the time in nanoseconds since 1970 and a number, such as 1760000089123456789_4711"
            ))
        };
        let shard = header(SHARD).unwrap_or_else(|| "0".into());
        Ok(Self {
            shard: shard.parse().map_err(|_| {
                Problem::bad_call(format!("{SHARD} {shard:?} is invalid: send the shard's number"))
            })?,
            range: header(RANGE).unwrap_or_default(),
            project: header(PROJECT).unwrap_or_default(),
            logstore: header(LOGSTORE).unwrap_or_default(),
            put_url: header(PUT_URL),
            spec: Spec::read(header(SPEC))?,
            key: header(KEY),
            heads: header(HEAD_BEFORE).and_then(|before| Some([before, header(HEAD)?])),
            digest: Digest::read(header(DIGEST).as_deref())?,
            ..Self::of(rule, task.parse().map_err(|()| invalid())?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_id_has_one_canonical_form() {
        let id: TaskId = "1760000089123456789_4711".parse().unwrap();
        assert_eq!(id.created_time(), (1_760_000_089, 123_456_789));
        for text in
            ["", "_", "1", "01_2", "1_+2", "1_2_3", "99999999999999999999_1", "18446744073709551615_1"]
        {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
