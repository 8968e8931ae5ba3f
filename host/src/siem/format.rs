use std::ops::Range;
use std::sync::Arc;

use super::dead_letter::DeadLetter;
use super::load::{Chunk, Position};
use crate::batch::{BatchBuilder, LogBatch};
use crate::stage::{FormatterStage, FormattingSession, Messages, StageError};

/// Chunks that one instance of a stage formats: its memory never shrinks.
const CHUNKS: u32 = 256;

/// Formats the logs of a shard, in an instance of a stage that is replaced now and then.
#[derive(Debug)]
pub(crate) struct Formatting {
    stage: Arc<FormatterStage>,
    config: Arc<str>,
    session: Option<FormattingSession>,
    formatted: u32,
}

/// A chunk as messages.
#[derive(Debug)]
pub(crate) struct Formatted {
    pub(crate) messages: Messages,
    /// Where the log of each message stands.
    chunk: Arc<Chunk>,
}

impl Formatted {
    /// Messages that were formatted before.
    pub(crate) fn again(messages: &[Vec<u8>]) -> Self {
        let ends = messages.iter().scan(0, |end, message| {
            *end += message.len() as u32;
            Some(*end)
        });
        let messages = Messages { bytes: messages.concat(), ends: ends.collect(), logs: vec![] };
        let chunk = Chunk { batch: BatchBuilder::default().take(), groups: vec![] };
        Self { messages, chunk: Arc::new(chunk) }
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.messages.ends.len()
    }

    /// Bytes of the logs.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.chunk.batch.bytes() as u64
    }

    /// Where the log of a message stands.
    pub(crate) fn position(&self, message: usize) -> Position {
        let log = self.messages.logs.get(message).map_or(message, |&log| log as usize);
        self.chunk.position(log)
    }

    /// The bytes of some messages, end to end.
    pub(crate) fn bytes(&self, messages: Range<usize>) -> &[u8] {
        let end = |message: usize| match message {
            0 => 0,
            message => self.messages.ends[message - 1] as usize,
        };
        &self.messages.bytes[end(messages.start)..end(messages.end)]
    }
}

impl Formatting {
    pub(crate) fn new(stage: Arc<FormatterStage>, config: Arc<str>) -> Self {
        Self { stage, config, session: None, formatted: 0 }
    }

    /// Formats a chunk. Logs that the stage refuses are dead letters.
    ///
    /// # Errors
    /// When the stage fails otherwise: nothing of the chunk is formatted then.
    pub(crate) fn format(&mut self, chunk: &Arc<Chunk>) -> Result<(Formatted, Vec<DeadLetter>), StageError> {
        let (mut messages, mut dead) = (empty(), vec![]);
        let logs = chunk.batch.len();
        match self.push(&chunk.batch) {
            Ok(whole) => messages = whole,
            Err(StageError::Rejected { log, reason, .. }) => {
                self.around(chunk, 0..logs, (log, reason), &mut messages, &mut dead)?;
            }
            Err(error) => return Err(error),
        }
        Ok((Formatted { messages, chunk: Arc::clone(chunk) }, dead))
    }

    /// Formats what is before and behind a log that was refused.
    fn around(
        &mut self,
        chunk: &Chunk,
        mut logs: Range<usize>,
        (mut refused, mut reason): (u32, String),
        messages: &mut Messages,
        dead: &mut Vec<DeadLetter>,
    ) -> Result<(), StageError> {
        loop {
            let log = logs.start + refused as usize;
            if log >= logs.end {
                let stage = self.stage.identity().clone();
                return Err(StageError::Messages { stage, what: "refused log is outside the batch" });
            }
            if log > logs.start {
                let before = self.push(&chunk.batch.slice(logs.start..log))?;
                append(messages, before, logs.start..log);
            }
            dead.push(DeadLetter::of_log(chunk.position(log), "rejected", &reason, &chunk.batch, log));
            logs.start = log + 1;
            if logs.is_empty() {
                return Ok(());
            }
            match self.push(&chunk.batch.slice(logs.clone())) {
                Ok(rest) => {
                    append(messages, rest, logs);
                    return Ok(());
                }
                Err(StageError::Rejected { log, reason: why, .. }) => (refused, reason) = (log, why),
                Err(error) => return Err(error),
            }
        }
    }

    fn push(&mut self, batch: &LogBatch) -> Result<Messages, StageError> {
        if self.formatted >= CHUNKS {
            self.session = None;
        }
        if self.session.is_none() {
            self.session = Some(self.stage.open(&self.config)?);
            self.formatted = 0;
        }
        self.formatted += 1;
        let session = self.session.as_mut().expect("it was opened");
        let result = session.push(batch);
        if result.as_ref().is_err_and(|error| !matches!(error, StageError::Rejected { .. })) {
            self.session = None;
        }
        result
    }
}

fn empty() -> Messages {
    Messages { bytes: vec![], ends: vec![], logs: vec![] }
}

/// Appends messages of the logs in `range`.
fn append(to: &mut Messages, more: Messages, range: Range<usize>) {
    let (bytes, first) = (to.bytes.len() as u32, range.start as u32);
    to.bytes.extend_from_slice(&more.bytes);
    if more.logs.is_empty() {
        to.logs.extend((0..more.ends.len() as u32).map(|log| first + log));
    } else {
        to.logs.extend(more.logs.iter().map(|log| first + log));
    }
    to.ends.extend(more.ends.iter().map(|end| bytes + end));
}
