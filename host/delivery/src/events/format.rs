use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::events::chunk::{Chunk, Position};
use crate::events::dead_letter::DeadLetter;
use crate::pipeline::transforms::Transforms;
use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_config::receiver::ReceiverConfig;
use logship_runtime::stage::{
    FormatterStage, FormattingSession, Messages, StageError, Transformed, TransformingSession, Transport,
};
use logship_sink::event::Events;

/// Chunks after which a stage instance is recycled, since its memory never shrinks.
const CHUNKS: u32 = 256;

/// Formats the logs of a shard in stage instances that are recycled periodically.
#[derive(Debug)]
pub(crate) struct Formatting {
    transforms: Transforms,
    stage: Arc<FormatterStage>,
    config: Arc<str>,
    sessions: Option<Sessions>,
    formatted: u32,
}

#[derive(Debug)]
struct Sessions {
    transformers: Vec<TransformingSession>,
    formatter: FormattingSession,
}

/// A formatted chunk.
#[derive(Debug)]
pub(crate) struct Formatted {
    pub(crate) messages: Messages,
    /// The source chunk, for the positions of the logs.
    chunk: Arc<Chunk>,
}

impl Formatted {
    /// Wraps messages that were formatted before.
    pub(crate) fn from_messages(messages: &[Vec<u8>]) -> Self {
        let ends = messages.iter().scan(0, |end, message| {
            *end += message.len() as u32;
            Some(*end)
        });
        let messages = Messages { bytes: messages.concat(), ends: ends.collect(), logs: vec![] };
        let chunk = Chunk { batch: BatchBuilder::default().take(), groups: vec![] };
        Self { messages, chunk: Arc::new(chunk) }
    }

    /// Number of messages.
    pub(crate) fn len(&self) -> usize {
        self.messages.ends.len()
    }

    /// Bytes of the logs.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.chunk.batch.bytes() as u64
    }

    /// The position of a message's log.
    pub(crate) fn position(&self, message: usize) -> Position {
        let log = self.messages.logs.get(message).map_or(message, |&log| log as usize);
        self.chunk.position(log)
    }

    /// Returns the messages for a receiver.
    pub(crate) fn events(&self) -> Events<'_> {
        Events { bytes: &self.messages.bytes, ends: &self.messages.ends }
    }

    /// Returns the bytes of some messages, end to end.
    pub(crate) fn bytes(&self, messages: Range<usize>) -> &[u8] {
        self.events().slice(messages)
    }
}

/// Transformed logs of a chunk.
#[derive(Debug)]
struct Piece<'c> {
    batch: Cow<'c, LogBatch>,
    /// Index in the chunk of each log; `None` if the indexes are the same.
    origins: Option<Vec<u32>>,
}

impl Piece<'_> {
    fn origin(&self, log: usize) -> u32 {
        self.origins.as_ref().map_or(log as u32, |origins| origins[log])
    }
}

/// Returns the transport of a receiver's messages.
pub fn transport(receiver: &ReceiverConfig) -> Transport {
    match receiver {
        ReceiverConfig::Hec(_) => Transport::Hec,
        ReceiverConfig::Syslog(_) => Transport::Syslog,
    }
}

impl Formatting {
    pub(crate) fn new(transforms: Transforms, stage: Arc<FormatterStage>, config: Arc<str>) -> Self {
        Self { transforms, stage, config, sessions: None, formatted: 0 }
    }

    /// Formats a chunk. Logs that a stage rejects become dead letters; filtered logs have no message.
    ///
    /// # Errors
    /// When a stage fails otherwise. No log of the chunk is formatted then.
    pub(crate) fn format(&mut self, chunk: &Arc<Chunk>) -> Result<(Formatted, Vec<DeadLetter>), StageError> {
        if self.formatted >= CHUNKS {
            self.sessions = None;
        }
        let mut sessions = match self.sessions.take() {
            Some(sessions) => sessions,
            None => {
                self.formatted = 0;
                Sessions { transformers: self.transforms.open()?, formatter: self.stage.open(&self.config)? }
            }
        };
        self.formatted += 1;
        let mut dead = vec![];
        let messages = sessions.format(chunk, &mut dead)?;
        // Instances are discarded after an error.
        self.sessions = Some(sessions);
        Ok((Formatted { messages, chunk: Arc::clone(chunk) }, dead))
    }
}

impl Sessions {
    fn format(&mut self, chunk: &Chunk, dead: &mut Vec<DeadLetter>) -> Result<Messages, StageError> {
        let mut pieces = vec![Piece { batch: Cow::Borrowed(&chunk.batch), origins: None }];
        let mut reject = |piece: &Piece<'_>, log: usize, reason: &str| {
            let position = chunk.position(piece.origin(log) as usize);
            dead.push(DeadLetter::of_log(position, "rejected", reason, &piece.batch, log));
        };
        for transformer in &mut self.transformers {
            let mut made = vec![];
            for piece in &pieces {
                let push = |batch: &LogBatch| transformer.push(batch);
                let took = |logs: Range<usize>, Transformed { batch, logs: from }: Transformed| {
                    let from = |log: usize| from.get(log).map_or(log, |&log| log as usize);
                    let origins = (0..batch.len()).map(|log| piece.origin(logs.start + from(log))).collect();
                    if !batch.is_empty() {
                        made.push(Piece { batch: Cow::Owned(batch), origins: Some(origins) });
                    }
                };
                around(&piece.batch, push, took, |log, reason| reject(piece, log, reason))?;
            }
            pieces = made;
        }
        let mut messages = empty();
        for piece in &pieces {
            let push = |batch: &LogBatch| self.formatter.push(batch);
            let took = |logs: Range<usize>, made: Messages| {
                if piece.origins.is_none() && logs.len() == piece.batch.len() {
                    messages = made;
                } else {
                    append(&mut messages, made, |log| piece.origin(logs.start + log as usize));
                }
            };
            around(&piece.batch, push, took, |log, reason| reject(piece, log, reason))?;
        }
        Ok(messages)
    }
}

/// Pushes all logs of a batch to a stage, and skips those that it rejects.
fn around<T>(
    batch: &LogBatch,
    mut push: impl FnMut(&LogBatch) -> Result<T, StageError>,
    mut took: impl FnMut(Range<usize>, T),
    mut rejected: impl FnMut(usize, &str),
) -> Result<(), StageError> {
    let mut logs = 0..batch.len();
    loop {
        let finished = logs.len() == batch.len();
        let result = if finished { push(batch) } else { push(&batch.slice(logs.clone())) };
        match result {
            Ok(made) => {
                took(logs, made);
                return Ok(());
            }
            Err(StageError::Rejected { stage, log, .. }) if log as usize >= logs.len() => {
                return Err(StageError::NoSuchLog { stage, log, logs: logs.len() });
            }
            Err(StageError::Rejected { log, reason, .. }) => {
                let log = logs.start + log as usize;
                if log > logs.start {
                    took(logs.start..log, push(&batch.slice(logs.start..log))?);
                }
                rejected(log, &reason);
                logs.start = log + 1;
                if logs.is_empty() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn empty() -> Messages {
    Messages { bytes: vec![], ends: vec![], logs: vec![] }
}

/// Appends messages. `origin` maps a log index of the stage to one of the chunk.
fn append(to: &mut Messages, more: Messages, origin: impl Fn(u32) -> u32) {
    let bytes = to.bytes.len() as u32;
    to.bytes.extend_from_slice(&more.bytes);
    let log = |message: usize| more.logs.get(message).copied().unwrap_or(message as u32);
    to.logs.extend((0..more.ends.len()).map(|message| origin(log(message))));
    to.ends.extend(more.ends.iter().map(|end| bytes + end));
}
