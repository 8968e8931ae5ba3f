//! Events that the receiver refused for good: kept as objects, with the reason, to be looked at and sent again.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::format::Formatted;
use super::load::Position;
use super::receiver::{Receiver, Refused};
use crate::batch::LogBatch;
use crate::destination::{Destination, DestinationError};

/// The media type of the objects: one dead letter a line.
const MEDIA_TYPE: &str = "application/x-ndjson";

/// An event that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where its log stands.
    #[serde(flatten)]
    pub position: Position,
    /// Why, in a word: the receiver's code.
    pub code: String,
    /// Why.
    pub reason: String,
    /// The event as it was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// The same in base64, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message_base64: Option<String>,
    /// The log, where the stage already refused it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fields: Option<Value>,
}

impl DeadLetter {
    /// A log that the stage refused.
    pub(crate) fn of_log(position: Position, code: &str, reason: &str, batch: &LogBatch, log: usize) -> Self {
        let text = |value: &[u8]| Value::from(String::from_utf8_lossy(value).into_owned());
        let mut fields = Map::from_iter([("__time__".to_owned(), batch.times[log].into())]);
        fields.extend(batch.log_fields(log).map(|(key, value)| (key.to_owned(), text(value))));
        Self {
            position,
            code: code.into(),
            reason: reason.into(),
            message: None,
            message_base64: None,
            fields: Some(fields.into()),
        }
    }

    /// A message that the receiver refused.
    pub(crate) fn of_message(formatted: &Formatted, refused: Refused) -> Self {
        let Refused { message: number, code, reason, .. } = refused;
        let bytes = formatted.bytes(number..number + 1);
        let (message, message_base64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(bytes))),
        };
        let position = formatted.position(number);
        Self { position, code, reason, message, message_base64, fields: None }
    }

    /// The event as it was sent, if it was.
    fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.message, &self.message_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            (None, None) => None,
        }
    }
}

/// What dead letters are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The rule or the consumer group.
    pub rule: String,
    /// The receiver that refused them.
    pub receiver: String,
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The shard.
    pub shard: u32,
}

/// A line of an object.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// When it was refused, in Unix seconds.
    pub time: u64,
    /// What it is of.
    #[serde(flatten)]
    pub origin: Origin,
    /// The event.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// Where dead letters are kept, as settings have it: a folder, or a bucket of a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// The folder.
    pub path: Option<PathBuf>,
    /// The name of a destination, in place of a folder.
    pub destination: Option<String>,
    /// The bucket of that destination.
    pub bucket: String,
    /// What their keys begin with.
    pub prefix: String,
}

/// Where dead letters are kept. Its methods block.
#[derive(Debug)]
pub struct DeadLetters {
    destination: Destination,
    prefix: String,
}

/// Why dead letters can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// Where they are kept.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// An object has something else.
    #[error("{key}, line {line}: {source}")]
    Content {
        /// Its key.
        key: String,
        /// The number of the line.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What came of sending dead letters again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// Those that were received.
    pub received: usize,
    /// Those that were refused again: they are kept.
    pub refused: usize,
    /// Logs that no stage has formatted: they are kept.
    pub unformatted: usize,
}

impl DeadLetters {
    /// Those below a prefix of a destination.
    pub fn new(destination: Destination, prefix: impl Into<String>) -> Self {
        Self { destination, prefix: prefix.into() }
    }

    /// Keeps dead letters, as one object. The same ones are kept once.
    ///
    /// # Errors
    /// When the destination does not take the object.
    pub fn keep(&self, origin: &Origin, time: u64, letters: &[DeadLetter]) -> Result<(), DestinationError> {
        let Some(first) = letters.first() else { return Ok(()) };
        let (mut lines, mut hash) = (vec![], Sha256::new());
        for letter in letters {
            let line = |time| {
                let line = Line { time, origin: origin.clone(), letter: letter.clone() };
                // Texts and numbers: there is nothing that JSON can't hold.
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
        let mut part = self.destination.begin(&key, 0)?;
        let whole = part.write(&lines).and_then(|()| part.finish(b""));
        let whole = whole.map_err(|error| DestinationError::io(key.as_ref(), error))?;
        match self.destination.publish(whole, &key, MEDIA_TYPE, &vec![]) {
            // Its name tells what it has.
            Err(DestinationError::Exists(_)) => Ok(()),
            kept => kept,
        }
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Result<Vec<String>, DestinationError> {
        let mut keys = self.destination.list(&self.prefix)?;
        keys.retain(|key| key.ends_with(".jsonl"));
        keys.sort();
        Ok(keys)
    }

    /// The dead letters of an object.
    pub fn read(&self, key: &str) -> Result<Vec<Line>, DeadLetterError> {
        let bytes = self.destination.read(key)?;
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
    pub fn delete(&self, key: &str) -> Result<(), DestinationError> {
        self.destination.delete(key)
    }
}

/// Sends the dead letters of an object again. What is refused once more is kept in an object of its own, and this one
/// is deleted.
///
/// # Errors
/// When the object can't be read, or what is left of it can't be kept: then it stays.
pub async fn resend(
    letters: &Arc<DeadLetters>,
    key: &str,
    receiver: &Receiver,
    time: u64,
) -> Result<Resent, DeadLetterError> {
    let (from, name) = (Arc::clone(letters), key.to_owned());
    let lines = blocking(move || from.read(&name)).await?;
    let (sendable, mut left): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|line| line.letter.bytes().is_some());
    let unformatted = left.len();
    let messages: Vec<Vec<u8>> = sendable.iter().filter_map(|line| line.letter.bytes()).collect();
    let refused = receiver.deliver(&[Formatted::again(&messages)]).await;
    let resent = Resent { received: sendable.len() - refused.len(), refused: refused.len(), unformatted };
    let mut sendable: Vec<Option<Line>> = sendable.into_iter().map(Some).collect();
    for Refused { message, code, reason, .. } in refused {
        if let Some(mut line) = sendable.get_mut(message).and_then(Option::take) {
            (line.letter.code, line.letter.reason) = (code, reason);
            left.push(line);
        }
    }
    if resent.received == 0 {
        return Ok(resent);
    }
    let (to, key) = (Arc::clone(letters), key.to_owned());
    blocking(move || {
        for lines in left.chunk_by(|one, next| one.origin == next.origin) {
            let letters: Vec<DeadLetter> = lines.iter().map(|line| line.letter.clone()).collect();
            to.keep(&lines[0].origin, time, &letters)?;
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
    use crate::directory::Directory;

    fn letter(message: &[u8]) -> DeadLetter {
        let refused =
            Refused { chunk: 0, message: 0, code: "6".into(), reason: "Invalid data format".into() };
        DeadLetter::of_message(&Formatted::again(&[message.to_vec()]), refused)
    }

    #[test]
    fn the_same_letters_are_kept_once_and_read_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(Destination::Directory(Directory::new(folder.path())), "");
        let origin = Origin {
            rule: "splunk".into(),
            receiver: "main".into(),
            project: "p".into(),
            logstore: "l".into(),
            shard: 3,
        };
        let dead = [letter(b"{\"event\":1}"), letter(b"\xff\n")];
        letters.keep(&origin, 7, &dead).unwrap();
        letters.keep(&origin, 8, &dead).unwrap();
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
}
