//! Objects in the making, and those that were written.

use std::ops::Range;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::batch::LogBatch;
use crate::destination::{Destination, DestinationError, Provenance};
use crate::part::{Part, Whole};
use crate::pipeline::{Encoding, Finished, Pipeline, Task};
use crate::stage::StageError;
use crate::trial::replay::Tap;

/// How many times its weight a log may take in an object without making it too large. JSON escapes
/// a control character as six.
const WORST_GROWTH: u64 = 8;

/// An object is full when less than this part of its size is left.
const SLACK: u64 = 64;

/// An object that was written.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Shipped {
    /// Its key in the bucket.
    pub object: String,
    /// The shard that its logs are from.
    pub shard: u32,
    /// How many logs it has.
    pub rows: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// SHA-256 of these, in hexadecimal.
    pub sha256: String,
    /// From its first log to the moment when it was on disk.
    pub seconds: f64,
}

/// Why an object failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The destination failed.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

/// An object in the making: its bytes go to a file as they come.
#[derive(Debug)]
pub(crate) struct Object {
    key: String,
    encoding: Encoding,
    part: Part,
    rows: u64,
    /// Logs that were left out by the transformers.
    left_out: u64,
    /// Uncompressed bytes so far.
    size: u64,
    /// The most that it may have.
    most: u64,
    begun: Instant,
}

/// An object whose bytes are all there.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) key: String,
    pub(crate) whole: Whole,
    pub(crate) rows: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) begun: Instant,
}

impl Object {
    /// Begins an object of at most `most` bytes before compression.
    pub(crate) fn begin(
        pipeline: &Pipeline,
        destination: &Destination,
        key: String,
        most: u64,
    ) -> Result<Self, ObjectError> {
        let encoding = pipeline.open()?;
        let part = destination.begin(&key, pipeline.header_room())?;
        Ok(Self::new(key, encoding, part, most))
    }

    /// Begins one that goes nowhere: its bytes are in a file without a name in `folder`.
    pub(crate) fn within(
        pipeline: &Pipeline,
        folder: &Path,
        key: String,
        most: u64,
    ) -> Result<Self, ObjectError> {
        let encoding = pipeline.open()?;
        let part = Part::within(folder, pipeline.header_room());
        let part = part.map_err(|error| DestinationError::io(folder, error))?;
        Ok(Self::new(key, encoding, part, most))
    }

    /// Begins one of logs that are transformed already.
    pub(crate) fn begin_behind_transforms(
        pipeline: &Pipeline,
        destination: &Destination,
        key: String,
        most: u64,
    ) -> Result<Self, ObjectError> {
        let encoding = pipeline.open_encoding()?;
        let part = destination.begin(&key, pipeline.header_room())?;
        Ok(Self::new(key, encoding, part, most))
    }

    fn new(key: String, encoding: Encoding, part: Part, most: u64) -> Self {
        Self { key, encoding, part, rows: 0, left_out: 0, size: 0, most, begun: Instant::now() }
    }

    /// The same, and what is encoded is seen before it is compressed.
    pub(crate) fn tapped(self, tap: Tap) -> Self {
        Self { encoding: self.encoding.tapped(tap), ..self }
    }

    /// Takes as many of the logs as surely fit, transformed, or the first if it is too large for any object. Returns where
    /// those begin that it did not take: it is full then.
    pub(crate) fn take(&mut self, batch: &LogBatch, logs: Range<usize>) -> Result<usize, ObjectError> {
        let Some(made) = self.encoding.transform(batch, logs.clone())? else {
            return self.fill(batch, logs, &[]);
        };
        let count = made.batch.len();
        let taken = self.fill(&made.batch, 0..count, &made.logs)?;
        let log = |made_log: usize| made.logs.get(made_log).map_or(made_log, |&log| log as usize);
        let end = if taken == count { logs.end } else { logs.start + log(taken) };
        self.left_out += (end - logs.start) as u64 - origins_of(&made.logs, taken);
        Ok(end)
    }

    /// Takes as many of the transformed logs as surely fit. `origins` are the logs that they are from, if any is not from
    /// the one in its place: those of the same log stay together.
    pub(crate) fn fill(
        &mut self,
        batch: &LogBatch,
        mut logs: Range<usize>,
        origins: &[u32],
    ) -> Result<usize, ObjectError> {
        while !logs.is_empty() {
            let left = self.most.saturating_sub(self.size);
            let mut fits = fitting(batch, logs.clone(), left);
            fits.end = before_a_log(origins, fits.clone());
            let full = left < self.most / SLACK || fits.is_empty();
            if full && self.size > 0 {
                break;
            }
            let part = if fits.is_empty() { logs.start..behind_a_log(origins, logs.clone()) } else { fits };
            logs.start = part.end;
            if part.len() == batch.len() {
                self.push(batch)?;
            } else {
                self.push(&batch.slice(part))?;
            }
        }
        Ok(logs.start)
    }

    fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let bytes = self.encoding.push(batch)?;
        self.size = self.encoding.size()?;
        self.rows += batch.len() as u64;
        Ok(self.part.write(&bytes).map_err(|error| DestinationError::io(self.key.as_ref(), error))?)
    }

    /// How many logs it has.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Logs that were left out by the transformers.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Bytes before compression so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Ends its bytes.
    pub(crate) fn finish(self) -> Result<Made, ObjectError> {
        let Self { key, encoding, mut part, rows, begun, .. } = self;
        let Finished { ending, raw_bytes } = encoding.finish()?;
        let whole = part.write(&ending.trailer).and_then(|()| part.finish(&ending.header));
        let whole = whole.map_err(|error| DestinationError::io(key.as_ref(), error))?;
        Ok(Made { key, whole, rows, raw_bytes, begun })
    }
}

impl Made {
    /// Brings it to its destination.
    pub(crate) fn publish(
        self,
        pipeline: &Pipeline,
        destination: &Destination,
        shard: u32,
        provenance: &Provenance,
    ) -> Result<Shipped, DestinationError> {
        let (stored_bytes, sha256) = (self.whole.bytes, self.whole.sha256.clone());
        destination.publish(self.whole, &self.key, pipeline.media_type(), provenance)?;
        Ok(Shipped {
            object: self.key,
            shard,
            rows: self.rows,
            raw_bytes: self.raw_bytes,
            stored_bytes,
            sha256,
            seconds: self.begun.elapsed().as_secs_f64(),
        })
    }
}

/// As many of the next logs as surely fit into `left` bytes.
fn fitting(batch: &LogBatch, logs: Range<usize>, left: u64) -> Range<usize> {
    let room = left / WORST_GROWTH;
    if batch.heaviest() as u64 <= room {
        return logs;
    }
    let mut weight = 0;
    let count = logs.clone().take_while(|&log| {
        weight += batch.weight(log) as u64;
        weight <= room
    });
    logs.start..logs.start + count.count()
}

/// How many logs the first `count` are from, each given by that which it is from; all from one each where none is given.
pub(crate) fn origins_of(origins: &[u32], count: usize) -> u64 {
    let given = origins.get(..count).map(|origins| origins.chunk_by(|one, next| one == next).count());
    given.unwrap_or(count) as u64
}

/// The end of the last logs in `logs` that are all that there are of the log that they are from.
pub(crate) fn before_a_log(origins: &[u32], logs: Range<usize>) -> usize {
    match origins.get(logs.end) {
        Some(next) => {
            let together = origins[logs.clone()].iter().rev().take_while(|origin| *origin == next);
            logs.end - together.count()
        }
        None => logs.end,
    }
}

/// The end of the first logs in `logs` that are from the same one: not more than the first, as a rule.
pub(crate) fn behind_a_log(origins: &[u32], logs: Range<usize>) -> usize {
    let first = origins.get(logs.start);
    let together =
        origins.get(logs.clone()).into_iter().flatten().take_while(|origin| Some(*origin) == first);
    logs.start + together.count().max(1)
}

/// A task of its own for an object: the time, and a random number of seven digits.
pub(crate) fn new_task(shard: u32) -> Task {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Task { created: created.try_into().unwrap_or(u64::MAX), number: new_number(), shard }
}

/// The second half of a task's id.
pub(crate) fn new_number() -> u64 {
    fastrand::u64(1_000_000..10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_the_same_log_stay_together() {
        let origins = [0, 0, 1, 3, 3, 3];
        let before = |logs| before_a_log(&origins, logs);
        assert_eq!([before(0..2), before(0..3), before(0..4), before(3..5), before(0..6)], [2, 3, 3, 3, 6]);
        let behind = |logs| behind_a_log(&origins, logs);
        assert_eq!([behind(0..6), behind(2..6), behind(3..6)], [2, 3, 6]);
        assert_eq!(
            (before_a_log(&[], 1..4), behind_a_log(&[], 1..4)),
            (4, 2),
            "each is from the one in its place"
        );
    }
}
