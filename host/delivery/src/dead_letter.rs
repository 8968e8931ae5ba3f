//! Dead letters: events that the receiver rejected permanently, and logs that became no rows. They are stored as objects
//! with the reason.
//!
//! The order of the module's parts: a position in a shard, a letter, its origin, the stored letters, and resending them.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use logship_batch::batch::LogBatch;
use logship_batch::reserved::field_key;
use logship_sink::error::SinkError;
use logship_sink::event::{EventSink, Events, RejectedMessage};
use logship_sink::gate::Start;
use logship_sink::object::ObjectSink;

/// The media type of the objects: one dead letter per line.
const MEDIA_TYPE: &str = "application/x-ndjson";

/// The position of a log in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The pull cursor before the log, as a number.
    pub cursor: u64,
    /// Number of log groups between the cursor and the log's group.
    pub group: u32,
    /// Index of the log in its log group.
    pub log: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{}.{}", self.cursor, self.group, self.log)
    }
}

/// The code of a log that became no row, because a value does not convert to the type of its column.
pub const DIRTY: &str = "dirty";

/// A rejected event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Position of the log.
    #[serde(flatten)]
    pub position: Position,
    /// The receiver's error code.
    pub code: String,
    /// The reason.
    pub reason: String,
    /// The event as it was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// The event in base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message_base64: Option<String>,
    /// The columns whose values do not convert, if the log became no row.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columns: Vec<String>,
    /// The log, if a stage rejected it before formatting, or if it became no row.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fields: Option<Value>,
}

impl DeadLetter {
    /// A log that a stage rejected.
    pub(crate) fn of_log(position: Position, code: &str, reason: &str, batch: &LogBatch, log: usize) -> Self {
        let text = |value: &[u8]| Value::from(String::from_utf8_lossy(value).into_owned());
        let mut fields = Map::from_iter([("__time__".to_owned(), batch.times[log].into())]);
        fields.extend(batch.log_fields(log).map(|(key, value)| (field_key(key).into_owned(), text(value))));
        Self {
            position,
            code: code.into(),
            reason: reason.into(),
            message: None,
            message_base64: None,
            columns: vec![],
            fields: Some(fields.into()),
        }
    }

    /// A message that the receiver rejected.
    pub(crate) fn of_message(position: Position, bytes: &[u8], rejected: RejectedMessage) -> Self {
        let RejectedMessage { code, reason, .. } = rejected;
        let (message, message_base64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { position, code, reason, message, message_base64, columns: vec![], fields: None }
    }

    /// The event as it was sent; `None` if it was not formatted.
    fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.message, &self.message_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            (None, None) => None,
        }
    }
}

/// The origin of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The rule or the consumer group.
    pub rule: String,
    /// The receiver.
    pub receiver: String,
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The shard.
    pub shard: u32,
    /// The run or the task that made the row dirty, if its rows are committed together.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub work: Option<RowWork>,
}

/// A run of a job, or a task of a rule, whose rows are visible together. Only then it is known that a dirty row is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RowWork {
    /// A run of a job.
    Run {
        /// Its number.
        run: i64,
    },
    /// A task of a rule.
    Task {
        /// Its id.
        task: String,
        /// The number of its plan.
        plan: i64,
    },
}

/// A line of a dead letter object.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// Time of the rejection, in Unix seconds.
    pub time: u64,
    /// The origin.
    #[serde(flatten)]
    pub origin: Origin,
    /// The event.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// The stored dead letters. Methods block.
#[derive(Debug)]
pub struct DeadLetters {
    sink: Box<dyn ObjectSink>,
    prefix: String,
}

/// An error in reading dead letters.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The destination failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A line of an object is not a dead letter.
    #[error("{key}, line {line}: {source}")]
    Content {
        /// The object key.
        key: String,
        /// The line number.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
}

/// Counts of resent dead letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// Events that the receiver accepted.
    pub received: usize,
    /// Events that the receiver rejected again. They are kept.
    pub rejected: usize,
    /// Logs that were never formatted. They are kept.
    pub unformatted: usize,
}

impl DeadLetters {
    /// Dead letters under a prefix of a destination.
    pub fn new(sink: Box<dyn ObjectSink>, prefix: impl Into<String>) -> Self {
        Self { sink, prefix: prefix.into() }
    }

    /// Saves dead letters as one object. Idempotent: the key contains a digest of the letters.
    ///
    /// # Errors
    /// When the destination can't store the object.
    pub fn save(&self, origin: &Origin, time: u64, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let Some(first) = letters.first() else { return Ok(()) };
        self.save_some(origin, time, (first, letters)).map(drop)
    }

    /// Replaces an object by one with these letters, or deletes it if there are none.
    ///
    /// # Errors
    /// When the destination can't store the object. The old one is kept then.
    pub(crate) fn replace(
        &self,
        key: &str,
        origin: &Origin,
        time: u64,
        letters: &[DeadLetter],
    ) -> Result<(), SinkError> {
        let saved = letters.first().map(|first| self.save_some(origin, time, (first, letters)));
        match saved.transpose()? {
            // The same letters have the same key.
            Some(saved) if saved == key => Ok(()),
            _ => self.delete(key),
        }
    }

    /// Saves letters. Returns the key of the object.
    fn save_some(
        &self,
        origin: &Origin,
        time: u64,
        (first, letters): (&DeadLetter, &[DeadLetter]),
    ) -> Result<String, SinkError> {
        let (mut lines, mut hash) = (vec![], Sha256::new());
        for letter in letters {
            let line = |time| {
                let line = Line { time, origin: origin.clone(), letter: letter.clone() };
                // Strings and numbers always serialize.
                serde_json::to_vec(&line).unwrap_or_default()
            };
            hash.update(line(0));
            lines.extend(line(time));
            lines.push(b'\n');
        }
        let Origin { rule, project, logstore, shard, .. } = origin;
        let digest = hex::encode(&hash.finalize()[..6]);
        let cursor = first.position.cursor;
        let key = format!("{}{project}/{logstore}/{rule}/{shard}/{cursor}_{digest}.jsonl", self.prefix);
        let mut staged = self.sink.begin(&key, 0)?;
        let finished = staged.write(&lines).and_then(|()| staged.finish(b""));
        let finished = finished.map_err(|error| SinkError::io(key.as_ref(), error))?;
        match self.sink.publish(finished, &key, MEDIA_TYPE, &vec![]) {
            // The key contains a digest of the content.
            Err(SinkError::Exists(_)) => Ok(key),
            result => result.map(|()| key),
        }
    }

    /// Lists the keys of all objects.
    pub fn keys(&self) -> Result<Vec<String>, SinkError> {
        self.list(&self.prefix)
    }

    /// Lists the keys of the objects of a project.
    pub fn keys_of(&self, project: &str) -> Result<Vec<String>, SinkError> {
        self.list(&self.project_prefix(project))
    }

    /// Returns true if a key is one of an object of a project.
    pub fn is_of(&self, project: &str, key: &str) -> bool {
        let is_plain = key.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        is_plain && key.starts_with(&self.project_prefix(project)) && key.ends_with(".jsonl")
    }

    fn project_prefix(&self, project: &str) -> String {
        format!("{}{project}/", self.prefix)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let mut keys = self.sink.list(prefix)?;
        keys.retain(|key| key.ends_with(".jsonl"));
        keys.sort();
        Ok(keys)
    }

    /// Reads the dead letters of an object.
    pub fn read(&self, key: &str) -> Result<Vec<Line>, DeadLetterError> {
        let bytes = self.sink.read(key)?;
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate();
        let parse = |(number, line): (usize, &[u8])| {
            serde_json::from_slice(line).map_err(|source| DeadLetterError::Content {
                key: key.to_owned(),
                line: number + 1,
                source,
            })
        };
        lines.map(parse).collect()
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) -> Result<(), SinkError> {
        self.sink.delete(key)
    }
}

impl Line {
    /// Writes the event as it was sent, or the log as JSON, as a line.
    ///
    /// # Errors
    /// When `out` can't be written to.
    pub fn write_content(&self, out: &mut impl Write) -> io::Result<()> {
        match (self.letter.bytes(), &self.letter.fields) {
            (Some(message), _) => out.write_all(&message)?,
            (None, Some(log)) => serde_json::to_writer(&mut *out, log)?,
            (None, None) => return Ok(()),
        }
        out.write_all(b"\n")
    }
}

/// Resends the dead letters of an object. Letters that are rejected again are saved in a new object, and the old object
/// is deleted.
///
/// # Errors
/// When the object can't be read, or the remaining letters can't be saved. The old object is kept then.
pub async fn resend(
    letters: &Arc<DeadLetters>,
    key: &str,
    receiver: &dyn EventSink,
    time: u64,
) -> Result<Resent, DeadLetterError> {
    let (from, name) = (Arc::clone(letters), key.to_owned());
    let lines = blocking(move || from.read(&name)).await?;
    let (sendable, mut remaining): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|line| line.letter.bytes().is_some());
    let unformatted = remaining.len();
    let messages: Vec<Vec<u8>> = sendable.iter().filter_map(|line| line.letter.bytes()).collect();
    let ends = messages.iter().scan(0, |end, message| {
        *end += message.len() as u32;
        Some(*end)
    });
    let (bytes, ends) = (messages.concat(), ends.collect::<Vec<_>>());
    let rejected = receiver.deliver(&[Events { bytes: &bytes, ends: &ends }], &Start::default()).await;
    let resent = Resent { received: sendable.len() - rejected.len(), rejected: rejected.len(), unformatted };
    let mut sendable: Vec<Option<Line>> = sendable.into_iter().map(Some).collect();
    for RejectedMessage { message, code, reason, .. } in rejected {
        if let Some(mut line) = sendable.get_mut(message).and_then(Option::take) {
            (line.letter.code, line.letter.reason) = (code, reason);
            remaining.push(line);
        }
    }
    if resent.received == 0 {
        return Ok(resent);
    }
    let (to, key) = (Arc::clone(letters), key.to_owned());
    blocking(move || {
        for lines in remaining.chunk_by(|one, next| one.origin == next.origin) {
            let letters: Vec<DeadLetter> = lines.iter().map(|line| line.letter.clone()).collect();
            to.save(&lines[0].origin, time, &letters)?;
        }
        Ok(to.delete(&key)?)
    })
    .await?;
    Ok(resent)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeadLetterError> + Send + 'static,
) -> Result<T, DeadLetterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logship_sink::directory::Directory;

    fn letter(message: &[u8]) -> DeadLetter {
        let rejected =
            RejectedMessage { chunk: 0, message: 0, code: "6".into(), reason: "Invalid data format".into() };
        DeadLetter::of_message(Position { cursor: 0, group: 0, log: 0 }, message, rejected)
    }

    #[test]
    fn save_is_idempotent_and_read_returns_same_letters() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(Box::new(Directory::new(folder.path())), "");
        let origin = Origin {
            rule: "splunk".into(),
            receiver: "main".into(),
            project: "p".into(),
            logstore: "l".into(),
            shard: 3,
            work: None,
        };
        let dead = [letter(b"{\"event\":1}"), letter(b"\xff\n")];
        letters.save(&origin, 7, &dead).unwrap();
        letters.save(&origin, 8, &dead).unwrap();
        let keys = letters.keys().unwrap();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert!(keys[0].starts_with("p/l/splunk/3/0_"), "{keys:?}");
        let read = letters.read(&keys[0]).unwrap();
        assert_eq!(read.iter().map(|line| line.letter.clone()).collect::<Vec<_>>(), dead);
        assert_eq!((read[0].time, &read[1].origin), (7, &origin));
        assert_eq!(read[1].letter.bytes().unwrap(), b"\xff\n");
        letters.delete(&keys[0]).unwrap();
        assert!(letters.keys().unwrap().is_empty());
    }

    #[test]
    fn replaced_letters_are_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(Box::new(Directory::new(folder.path())), "");
        let work = Some(RowWork::Task { task: "1_2".into(), plan: 7 });
        let names = ["r", "t", "p", "l"].map(str::to_owned);
        let [rule, receiver, project, logstore] = names;
        let origin = Origin { rule, receiver, project, logstore, shard: 0, work };
        let dead = [letter(b"a"), letter(b"b")];
        letters.save(&origin, 1, &dead).unwrap();
        let key = letters.keys().unwrap().remove(0);
        assert!(
            letters.is_of("p", &key) && !letters.is_of("q", &key) && !letters.is_of("p", "p/../q/1.jsonl")
        );
        assert_eq!(letters.read(&key).unwrap()[0].origin, origin);
        letters.replace(&key, &origin, 2, &dead).unwrap();
        assert_eq!(letters.keys_of("p").unwrap(), [key.as_str()]);
        letters.replace(&key, &origin, 2, &dead[1..]).unwrap();
        let key = letters.keys_of("p").unwrap().remove(0);
        assert_eq!(letters.read(&key).unwrap().len(), 1);
        letters.replace(&key, &origin, 2, &[]).unwrap();
        assert!(letters.keys().unwrap().is_empty());
    }
}
