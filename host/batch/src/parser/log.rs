//! Builds logs out of keys and values: reserved keys set the log's time and its group, others become fields.

use xxhash_rust::xxh3::xxh3_64;

use super::Settings;
use crate::batch::{BatchBuilder, LogBatch, LogGroup, Tag};
use crate::time::{self, Time};

/// Builds the logs of a block, one after the other.
#[derive(Debug)]
pub(super) struct LogBuilder {
    pub(super) settings: Settings,
    builder: BatchBuilder,
    group: GroupBuilder,
    /// The shard of each log in the builder.
    shard_of: Vec<u32>,
}

/// Builds one log. Its state is no part of [`LogBuilder`], so that it stays in registers.
pub(super) struct LogWriter<'a> {
    settings: &'a Settings,
    builder: &'a mut BatchBuilder,
    group: &'a mut GroupBuilder,
    shard_of: &'a mut Vec<u32>,
    time: Option<Time>,
    nanos: Option<u32>,
    shard: u32,
}

impl LogBuilder {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, builder: BatchBuilder::default(), group: GroupBuilder::default(), shard_of: vec![] }
    }

    /// Returns the number of complete logs.
    pub(super) fn len(&self) -> usize {
        self.builder.len()
    }

    /// Removes the logs from index `len` on, and the members of the current log.
    pub(super) fn truncate(&mut self, len: usize) {
        self.builder.truncate(len);
        self.shard_of.truncate(len);
    }

    /// Returns the batch of each shard that has logs.
    pub(super) fn take(&mut self) -> Vec<(u32, LogBatch)> {
        if self.builder.is_empty() {
            return vec![];
        }
        let batches = self.builder.take().split(&self.shard_of);
        self.shard_of.clear();
        batches
    }

    /// Begins a log.
    #[inline(always)]
    pub(super) fn begin(&mut self) -> LogWriter<'_> {
        let Self { settings, builder, group, shard_of } = self;
        let shard = if settings.shards > 1 { shard_for(b"", settings.shards) } else { 0 };
        group.clear();
        LogWriter { settings, builder, group, shard_of, time: None, nanos: None, shard }
    }
}

impl LogWriter<'_> {
    /// Adds a member.
    ///
    /// # Errors
    /// Returns the reason why the value is not allowed for a reserved key.
    #[inline(always)]
    pub(super) fn member(&mut self, key: &str, value: &str) -> Result<(), String> {
        let Settings { time_field, shard_field, shards, .. } = self.settings;
        if *shards > 1 && key == *shard_field {
            self.shard = shard_for(value.as_bytes(), *shards);
        }
        let reserved = Reserved::of(key);
        let is_time = match (time_field, &reserved) {
            (None, Some(Reserved::Time)) => true,
            (Some(field), _) => key == *field,
            _ => false,
        };
        if is_time {
            self.time = Some(read_time(key, value)?);
        }
        match reserved {
            None => self.builder.field(key, value.as_bytes()),
            Some(Reserved::Time) => {}
            Some(Reserved::NanosPart) => self.nanos = Some(read_nanos(key, value)?),
            Some(Reserved::Topic) => set(&mut self.group.group.topic, value),
            Some(Reserved::Source) => set(&mut self.group.group.source, value),
            Some(Reserved::Tag(key)) => self.group.tag(key, value),
        }
        Ok(())
    }

    /// Adds a text, which may not be UTF-8.
    ///
    /// # Errors
    /// Returns the reason why the value is not allowed for a reserved key.
    pub(super) fn text(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        match str::from_utf8(value) {
            Ok(value) => self.member(key, value),
            Err(_) => {
                self.builder.field(key, value);
                Ok(())
            }
        }
    }

    /// Completes the log.
    ///
    /// # Errors
    /// Returns the reason why it has no time.
    #[inline]
    pub(super) fn end(self) -> Result<(), String> {
        let time = match (self.time, &self.settings.time_field) {
            (Some(time), _) => time,
            (None, None) => self.settings.default_time,
            (None, Some(field)) => return Err(format!("field {field:?} with the time is missing")),
        };
        let group = self.builder.group(self.group.finish());
        self.builder.end_log(group, time.0, self.nanos.unwrap_or(time.1));
        self.shard_of.push(self.shard);
        Ok(())
    }
}

fn read_time(key: &str, text: &str) -> Result<Time, String> {
    time::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("{key:?} is not a time: {shown:?}; use RFC 3339 or Unix time from 1970 to 2106")
    })
}

fn read_nanos(key: &str, text: &str) -> Result<u32, String> {
    let nanos = text.parse().ok().filter(|nanos| *nanos < 1_000_000_000);
    nanos.ok_or_else(|| format!("{key:?} is not a number of nanoseconds below 1,000,000,000"))
}

/// Returns the shard of a value. The high bits of the hash select it, as with the hash ranges of a Logstore.
fn shard_for(value: &[u8], shards: u32) -> u32 {
    ((u128::from(xxh3_64(value)) * u128::from(shards)) >> 64) as u32
}

/// Builds the group of each log in reused memory.
#[derive(Debug)]
struct GroupBuilder {
    group: LogGroup,
    /// The number of tags of the current log.
    tags: usize,
}

impl Default for GroupBuilder {
    fn default() -> Self {
        Self { group: LogGroup { topic: String::new(), source: String::new(), tags: vec![] }, tags: 0 }
    }
}

impl GroupBuilder {
    fn clear(&mut self) {
        self.group.topic.clear();
        self.group.source.clear();
        self.tags = 0;
    }

    fn tag(&mut self, key: &str, value: &str) {
        match self.group.tags.get_mut(self.tags) {
            Some(tag) => {
                set(&mut tag.key, key);
                set(&mut tag.value, value);
            }
            None => self.group.tags.push(Tag { key: key.to_owned(), value: value.to_owned() }),
        }
        self.tags += 1;
    }

    fn finish(&mut self) -> &LogGroup {
        self.group.tags.truncate(self.tags);
        &self.group
    }
}

fn set(target: &mut String, text: &str) {
    target.clear();
    target.push_str(text);
}

/// The reserved keys.
enum Reserved<'a> {
    Time,
    NanosPart,
    Topic,
    Source,
    Tag(&'a str),
}

impl<'a> Reserved<'a> {
    #[inline]
    fn of(key: &'a str) -> Option<Self> {
        match key.strip_prefix("__")? {
            "time__" => Some(Self::Time),
            "time_ns_part__" => Some(Self::NanosPart),
            "topic__" => Some(Self::Topic),
            "source__" => Some(Self::Source),
            name => name.strip_prefix("tag__:").map(Self::Tag),
        }
    }
}
