//! Logs that pass stages which may reject some of them.

use std::borrow::Cow;
use std::ops::Range;

use logship_batch::batch::LogBatch;
use logship_runtime::stage::{StageError, Transformed, TransformingSession};

/// Transformed logs of a batch.
#[derive(Debug)]
pub(crate) struct Piece<'b> {
    pub(crate) batch: Cow<'b, LogBatch>,
    /// Index in the batch of each log; `None` if the indexes are the same.
    pub(crate) origins: Option<Vec<u32>>,
}

impl Piece<'_> {
    /// Returns the index in the batch of a log.
    pub(crate) fn origin(&self, log: usize) -> u32 {
        self.origins.as_ref().map_or(log as u32, |origins| origins[log])
    }

    /// Returns the number of logs of the batch that the piece has.
    pub(crate) fn represented(&self) -> usize {
        match &self.origins {
            None => self.batch.len(),
            Some(origins) => origins.chunk_by(|one, next| one == next).count(),
        }
    }
}

/// Passes a batch through transformers. Calls `reject` for each log that one of them rejects, with its piece, its index
/// there and the reason.
///
/// # Errors
/// When a stage fails otherwise.
pub(crate) fn transform<'b>(
    transformers: &mut [TransformingSession],
    batch: &'b LogBatch,
    reject: &mut impl FnMut(&Piece<'_>, usize, &str),
) -> Result<Vec<Piece<'b>>, StageError> {
    let mut pieces = vec![Piece { batch: Cow::Borrowed(batch), origins: None }];
    for transformer in transformers {
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
    Ok(pieces)
}

/// Pushes all logs of a batch to a stage, and skips those that it rejects.
pub(crate) fn around<T>(
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
