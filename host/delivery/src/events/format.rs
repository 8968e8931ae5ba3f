use std::ops::Range;
use std::sync::Arc;

use crate::dead_letter::{DeadLetter, Position};
use crate::events::chunk::Chunk;
use crate::pipeline::pieces::{Piece, around, transform};
use crate::pipeline::transforms::Transforms;
use logship_batch::batch::LogBatch;
use logship_config::receiver::ReceiverConfig;
use logship_runtime::stage::{
    FormatterStage, FormattingSession, Messages, StageError, TransformingSession, Transport,
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
        let mut reject = |piece: &Piece<'_>, log: usize, reason: &str| {
            let position = chunk.position(piece.origin(log) as usize);
            dead.push(DeadLetter::of_log(position, "rejected", reason, &piece.batch, log));
        };
        let pieces = transform(&mut self.transformers, &chunk.batch, &mut reject)?;
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
