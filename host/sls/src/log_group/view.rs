use super::reader::Reader;
use super::{Malformed, Reason};

/// A zero-copy view of a validated log group.
///
/// [`parse_into`](Self::parse_into) reads the logs in one pass. [`logs`](Self::logs) needs two, as a log's nanoseconds
/// follow its fields.
#[derive(Debug, Clone)]
pub struct LogGroupView<'a> {
    bytes: &'a [u8],
    topic: &'a [u8],
    source: &'a [u8],
    machine_uuid: &'a [u8],
    tags: Vec<(&'a [u8], &'a [u8])>,
    logs: u32,
    newest: Option<u32>,
}

/// A receiver of a group's logs.
pub trait Visitor {
    /// Receives a field of the current log, in wire order.
    fn field(&mut self, key: &[u8], value: &[u8]);

    /// Ends the current log. `time` is Unix time in seconds; `nanos` is the fraction, if the sender set it.
    fn end_log(&mut self, time: u32, nanos: Option<u32>);
}

impl<'a> LogGroupView<'a> {
    /// Validates all of `bytes`, in one pass.
    ///
    /// # Errors
    /// Fails if the bytes are not a log group, a log lacks its time, or a field lacks its key or value.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_into(bytes, &mut IgnoreLogs)
    }

    /// Validates like [`parse`](Self::parse), and passes each log to `visitor`. The group's topic, source and tags are
    /// known only at the end.
    ///
    /// # Errors
    /// Fails like `parse`. The visitor has then received all logs before the error, and possibly fields of the next.
    #[inline]
    pub fn parse_into(bytes: &'a [u8], visitor: &mut impl Visitor) -> Result<Self, Malformed> {
        let mut view =
            Self { bytes, topic: b"", source: b"", machine_uuid: b"", tags: vec![], logs: 0, newest: None };
        let mut group = Reader::new(bytes);
        let mut summary = Summary { logs: 0, newest: 0, visitor };
        while !group.is_at_end() {
            match group.tag()? {
                LOGS => walk_log(group.message()?, &mut summary)?,
                CATEGORY => drop(group.bytes()?),
                TOPIC => view.topic = group.bytes()?,
                SOURCE => view.source = group.bytes()?,
                MACHINE_UUID => view.machine_uuid = group.bytes()?,
                TAGS => view.tags.push(pair(group.message()?, "LogTag")?),
                tag => group.unknown(tag, 6)?,
            }
        }
        view.logs = u32::try_from(summary.logs).map_err(|_| group.malformed(Reason::TooMany))?;
        view.newest = (view.logs > 0).then_some(summary.newest);
        Ok(view)
    }

    /// Returns the encoded group.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the topic, or an empty slice if unset.
    pub fn topic(&self) -> &'a [u8] {
        self.topic
    }

    /// Returns the source of the logs, usually an IP address, or an empty slice if unset.
    pub fn source(&self) -> &'a [u8] {
        self.source
    }

    /// Returns the UUID of the logs' machine, or an empty slice if unset.
    pub fn machine_uuid(&self) -> &'a [u8] {
        self.machine_uuid
    }

    /// Returns the tags as key-value pairs, in wire order.
    pub fn tags(&self) -> &[(&'a [u8], &'a [u8])] {
        &self.tags
    }

    /// Returns the number of logs.
    pub fn log_count(&self) -> u32 {
        self.logs
    }

    /// Returns the newest log's Unix time in seconds, or `None` for a group without logs.
    pub fn newest_time(&self) -> Option<u32> {
        self.newest
    }

    /// Iterates over the logs.
    pub fn logs(&self) -> Logs<'a> {
        Logs { group: self.messages() }
    }

    fn messages(&self) -> LogMessages<'a> {
        LogMessages { group: Reader::new(self.bytes) }
    }
}

const LOGS: u32 = 0x0a;
const CATEGORY: u32 = 0x12;
const TOPIC: u32 = 0x1a;
const SOURCE: u32 = 0x22;
const MACHINE_UUID: u32 = 0x2a;
const TAGS: u32 = 0x32;

const TIME: u32 = 0x08;
const CONTENTS: u32 = 0x12;
/// Values without keys. loongcollector's schema has them, but it doesn't send them.
const VALUES: u32 = 0x1a;
const TIME_NS: u32 = 0x25;

const KEY: u32 = 0x0a;
const VALUE: u32 = 0x12;

#[inline(always)]
fn walk_log(mut log: Reader<'_>, visitor: &mut impl Visitor) -> Result<(), Malformed> {
    let begin = log.offset();
    let (mut time, mut nanos) = (None, None);
    while !log.is_at_end() {
        match log.tag()? {
            CONTENTS => {
                let (key, value) = pair(log.message()?, "Content")?;
                visitor.field(key, value);
            }
            // Takes the low 32 bits, like every protobuf parser.
            TIME => time = Some(log.varint()? as u32),
            TIME_NS => nanos = Some(log.fixed32()?),
            VALUES => drop(log.bytes()?),
            tag => log.unknown(tag, 4)?,
        }
    }
    match time {
        Some(time) => visitor.end_log(time, nanos),
        None => return Err(missing(begin, "Log", "Time")),
    }
    Ok(())
}

/// Reads a key-value pair. Fields and tags have the same encoding.
#[inline(always)]
fn pair<'a>(mut pair: Reader<'a>, message: &'static str) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let begin = pair.offset();
    let (mut key, mut value) = (None, None);
    while !pair.is_at_end() {
        match pair.tag()? {
            KEY => key = Some(pair.bytes()?),
            VALUE => value = Some(pair.bytes()?),
            tag => pair.unknown(tag, 2)?,
        }
    }
    match (key, value) {
        (Some(key), Some(value)) => Ok((key, value)),
        (None, _) => Err(missing(begin, message, "Key")),
        (_, None) => Err(missing(begin, message, "Value")),
    }
}

#[cold]
fn missing(offset: usize, message: &'static str, field: &'static str) -> Malformed {
    Malformed { offset, reason: Reason::Missing { message, field } }
}

/// Collects the log count and the newest time, and forwards the logs.
struct Summary<'a, V> {
    logs: u64,
    newest: u32,
    visitor: &'a mut V,
}

impl<V: Visitor> Visitor for Summary<'_, V> {
    #[inline(always)]
    fn field(&mut self, key: &[u8], value: &[u8]) {
        self.visitor.field(key, value);
    }

    #[inline(always)]
    fn end_log(&mut self, time: u32, nanos: Option<u32>) {
        self.logs += 1;
        self.newest = self.newest.max(time);
        self.visitor.end_log(time, nanos);
    }
}

/// Ignores all logs.
struct IgnoreLogs;

impl Visitor for IgnoreLogs {
    #[inline(always)]
    fn field(&mut self, _: &[u8], _: &[u8]) {}

    #[inline(always)]
    fn end_log(&mut self, _: u32, _: Option<u32>) {}
}

/// Iterates over the encoded logs of a validated group.
#[derive(Debug, Clone)]
struct LogMessages<'a> {
    group: Reader<'a>,
}

impl<'a> Iterator for LogMessages<'a> {
    type Item = Reader<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.group.is_at_end() {
            match self.group.tag().ok()? {
                LOGS => return self.group.message().ok(),
                CATEGORY | TOPIC | SOURCE | MACHINE_UUID | TAGS => drop(self.group.bytes().ok()?),
                tag => self.group.unknown(tag, 6).ok()?,
            }
        }
        None
    }
}

/// An iterator over a group's logs, from [`LogGroupView::logs`].
#[derive(Debug, Clone)]
pub struct Logs<'a> {
    group: LogMessages<'a>,
}

impl<'a> Iterator for Logs<'a> {
    type Item = LogView<'a>;

    fn next(&mut self) -> Option<LogView<'a>> {
        let log = self.group.next()?;
        let mut times = Times { time: 0, nanos: None };
        walk_log(log, &mut times).ok()?;
        Some(LogView { time: times.time, nanos: times.nanos, log })
    }
}

struct Times {
    time: u32,
    nanos: Option<u32>,
}

impl Visitor for Times {
    #[inline(always)]
    fn field(&mut self, _: &[u8], _: &[u8]) {}

    fn end_log(&mut self, time: u32, nanos: Option<u32>) {
        (self.time, self.nanos) = (time, nanos);
    }
}

/// A zero-copy view of a log.
#[derive(Debug, Clone, Copy)]
pub struct LogView<'a> {
    time: u32,
    nanos: Option<u32>,
    log: Reader<'a>,
}

impl<'a> LogView<'a> {
    /// Returns the Unix time in seconds.
    pub fn time(&self) -> u32 {
        self.time
    }

    /// Returns the nanoseconds, if the sender set them. The value may exceed one second.
    pub fn nanos(&self) -> Option<u32> {
        self.nanos
    }

    /// Iterates over keys and values, in wire order. A key may repeat.
    pub fn fields(&self) -> Fields<'a> {
        Fields { log: self.log }
    }
}

/// An iterator over a log's fields, from [`LogView::fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    log: Reader<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.log.is_at_end() {
            match self.log.tag().ok()? {
                CONTENTS => return pair(self.log.message().ok()?, "Content").ok(),
                TIME => drop(self.log.varint().ok()?),
                TIME_NS => drop(self.log.fixed32().ok()?),
                VALUES => drop(self.log.bytes().ok()?),
                tag => self.log.unknown(tag, 4).ok()?,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
