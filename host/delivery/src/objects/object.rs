//! Objects that are being written, and objects that were shipped.

use std::ops::Range;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::new_number;
use crate::pipeline::Tap;
use crate::pipeline::{Encoding, FinishedEncoding, Pipeline, Task};
use logship_batch::batch::LogBatch;
use logship_logstore::LostValues;
use logship_runtime::stage::StageError;
use logship_sink::error::SinkError;
use logship_sink::object::{ObjectSink, Provenance};
use logship_sink::staged_file::{FinishedFile, StagedFile};

/// Upper bound for the encoded size of a log, as a multiple of its weight. JSON escapes a control character
/// as six bytes.
const MAX_EXPANSION_RATIO: u64 = 8;

/// An object is full when less than its maximum size divided by this is left.
const SLACK_DIVISOR: u64 = 64;

/// An object that was written to its destination.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Shipped {
    /// Its key in the bucket.
    pub object: String,
    /// The shard of its logs.
    pub shard: u32,
    /// Number of logs.
    pub rows: u64,
    /// Size before compression, in bytes.
    pub raw_bytes: u64,
    /// Size as stored, in bytes.
    pub stored_bytes: u64,
    /// SHA-256 of the stored bytes, in hexadecimal.
    pub sha256: String,
    /// Seconds from the first log until the object was durable.
    pub seconds: f64,
    /// The values of its logs that it does not hold.
    #[serde(skip_serializing_if = "LostValues::is_empty")]
    pub lost: LostValues,
}

/// An error of making or publishing an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The destination failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The object cannot hold values of its logs, and none may be lost.
    #[error("values don't fit the format: {0}")]
    Lost(LostValues),
}

/// An object that is being written to a staged file.
#[derive(Debug)]
pub struct Object {
    key: String,
    encoding: Encoding,
    staged: StagedFile,
    rows: u64,
    /// Number of logs that the transformers filtered.
    filtered: u64,
    /// Size so far, in bytes before compression.
    size: u64,
    /// Maximum size, in bytes before compression.
    max_bytes: u64,
    started: Instant,
}

/// A complete object in a local file, before upload.
#[derive(Debug)]
pub struct FinishedObject {
    /// Its key in the bucket.
    pub key: String,
    /// Its bytes.
    pub file: FinishedFile,
    /// Number of logs.
    pub rows: u64,
    /// Size before compression, in bytes.
    pub raw_bytes: u64,
    /// The time at which it was begun.
    pub started: Instant,
    /// The values of its logs that it does not hold.
    pub lost: LostValues,
}

impl Object {
    /// Begins an object of at most `max_bytes` bytes before compression.
    pub fn begin(
        pipeline: &Pipeline,
        sink: &dyn ObjectSink,
        key: String,
        max_bytes: u64,
    ) -> Result<Self, ObjectError> {
        let encoding = pipeline.open()?;
        let staged = sink.begin(&key, pipeline.header_room())?;
        Ok(Self::new(key, encoding, staged, max_bytes))
    }

    /// Begins an object that is never published. Its bytes are in an unnamed file in `folder`.
    pub(crate) fn create_in(
        pipeline: &Pipeline,
        folder: &Path,
        key: String,
        max_bytes: u64,
    ) -> Result<Self, ObjectError> {
        let encoding = pipeline.open()?;
        let staged = StagedFile::create(folder, pipeline.header_room());
        let staged = staged.map_err(|error| SinkError::io(folder, error))?;
        Ok(Self::new(key, encoding, staged, max_bytes))
    }

    /// Begins an object for logs that are already transformed.
    pub fn begin_transformed(
        pipeline: &Pipeline,
        sink: &dyn ObjectSink,
        key: String,
        max_bytes: u64,
    ) -> Result<Self, ObjectError> {
        let encoding = pipeline.open_encoding()?;
        let staged = sink.begin(&key, pipeline.header_room())?;
        Ok(Self::new(key, encoding, staged, max_bytes))
    }

    fn new(key: String, encoding: Encoding, staged: StagedFile, max_bytes: u64) -> Self {
        Self { key, encoding, staged, rows: 0, filtered: 0, size: 0, max_bytes, started: Instant::now() }
    }

    /// Returns the same object with a tap on the encoded bytes before compression.
    pub(crate) fn tapped(self, tap: Tap) -> Self {
        Self { encoding: self.encoding.tapped(tap), ..self }
    }

    /// Transforms and appends as many of the logs as certainly fit. A log that is too large for any object is
    /// accepted as the first one. Returns the index of the first log not accepted: the object is full then.
    pub fn take(&mut self, batch: &LogBatch, logs: Range<usize>) -> Result<usize, ObjectError> {
        let Some(transformed) = self.encoding.transform(batch, logs.clone())? else {
            return self.fill(batch, logs, &[]);
        };
        let count = transformed.batch.len();
        let taken = self.fill(&transformed.batch, 0..count, &transformed.logs)?;
        let log =
            |output_log: usize| transformed.logs.get(output_log).map_or(output_log, |&log| log as usize);
        let end = if taken == count { logs.end } else { logs.start + log(taken) };
        self.filtered += (end - logs.start) as u64 - count_source_logs(&transformed.logs, taken);
        Ok(end)
    }

    /// Appends as many transformed logs as certainly fit. `origins` gives the source log of each log, unless
    /// they correspond one to one. Logs of the same source log stay together.
    pub(crate) fn fill(
        &mut self,
        batch: &LogBatch,
        mut logs: Range<usize>,
        origins: &[u32],
    ) -> Result<usize, ObjectError> {
        while !logs.is_empty() {
            let left = self.max_bytes.saturating_sub(self.size);
            let mut fits = fitting(batch, logs.clone(), left);
            fits.end = end_before_split_log(origins, fits.clone());
            let full = left < self.max_bytes / SLACK_DIVISOR || fits.is_empty();
            if full && self.size > 0 {
                break;
            }
            let staged = if fits.is_empty() {
                logs.start..end_of_first_source_log(origins, logs.clone())
            } else {
                fits
            };
            logs.start = staged.end;
            if staged.len() == batch.len() {
                self.push(batch)?;
            } else {
                self.push(&batch.slice(staged))?;
            }
        }
        Ok(logs.start)
    }

    fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let bytes = self.encoding.push(batch)?;
        self.size = self.encoding.size()?;
        self.rows += batch.len() as u64;
        Ok(self.staged.write(&bytes).map_err(|error| SinkError::io(self.key.as_ref(), error))?)
    }

    /// Returns the number of logs.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the number of logs that the transformers filtered.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Returns the values of its logs that it cannot hold.
    pub fn lost(&self) -> &LostValues {
        self.encoding.lost()
    }

    /// Returns the size so far, in bytes before compression.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the time at which the object was begun.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Finishes the object's bytes.
    pub fn finish(self) -> Result<FinishedObject, ObjectError> {
        let Self { key, encoding, mut staged, rows, started, .. } = self;
        let FinishedEncoding { ending, raw_bytes, lost } = encoding.finish()?;
        let file = staged.write(&ending.trailer).and_then(|()| staged.finish(&ending.header));
        let file = file.map_err(|error| SinkError::io(key.as_ref(), error))?;
        Ok(FinishedObject { key, file, rows, raw_bytes, started, lost })
    }
}

impl FinishedObject {
    /// Uploads the object to its destination.
    pub fn publish(
        self,
        pipeline: &Pipeline,
        sink: &dyn ObjectSink,
        shard: u32,
        provenance: &Provenance,
    ) -> Result<Shipped, SinkError> {
        let (stored_bytes, sha256) = (self.file.bytes, self.file.sha256.clone());
        sink.publish(self.file, &self.key, pipeline.media_type(), provenance)?;
        Ok(Shipped {
            object: self.key,
            shard,
            rows: self.rows,
            raw_bytes: self.raw_bytes,
            stored_bytes,
            sha256,
            seconds: self.started.elapsed().as_secs_f64(),
            lost: self.lost,
        })
    }
}

/// Returns the first of the logs that certainly fit into `left` bytes.
fn fitting(batch: &LogBatch, logs: Range<usize>, left: u64) -> Range<usize> {
    let budget = left / MAX_EXPANSION_RATIO;
    if batch.max_weight() as u64 <= budget {
        return logs;
    }
    let mut weight = 0;
    let count = batch.weights(logs.clone()).take_while(|&of_log| {
        weight += of_log as u64;
        weight <= budget
    });
    logs.start..logs.start + count.count()
}

/// Counts the source logs of the first `count` logs. Without `origins`, each log has its own source log.
pub(crate) fn count_source_logs(origins: &[u32], count: usize) -> u64 {
    let given = origins.get(..count).map(|origins| origins.chunk_by(|one, next| one == next).count());
    given.unwrap_or(count) as u64
}

/// Returns the end of the logs in `logs` that excludes a source log continued behind the range.
pub(crate) fn end_before_split_log(origins: &[u32], logs: Range<usize>) -> usize {
    match origins.get(logs.end) {
        Some(next) => {
            let together = origins[logs.clone()].iter().rev().take_while(|origin| *origin == next);
            logs.end - together.count()
        }
        None => logs.end,
    }
}

/// Returns the end of the logs with the same source log as the first in `logs`. Usually this is one log.
pub(crate) fn end_of_first_source_log(origins: &[u32], logs: Range<usize>) -> usize {
    let first = origins.get(logs.start);
    let together =
        origins.get(logs.clone()).into_iter().flatten().take_while(|origin| Some(*origin) == first);
    logs.start + together.count().max(1)
}

/// Creates a task for a single object: the current time and a random number of seven digits.
pub fn new_task(shard: u32) -> Task {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Task { created: created.try_into().unwrap_or(u64::MAX), number: new_number(), shard }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_one_source_log_stay_together() {
        let origins = [0, 0, 1, 3, 3, 3];
        let before = |logs| end_before_split_log(&origins, logs);
        assert_eq!([before(0..2), before(0..3), before(0..4), before(3..5), before(0..6)], [2, 3, 3, 3, 6]);
        let first_group = |logs| end_of_first_source_log(&origins, logs);
        assert_eq!([first_group(0..6), first_group(2..6), first_group(3..6)], [2, 3, 6]);
        assert_eq!(
            (end_before_split_log(&[], 1..4), end_of_first_source_log(&[], 1..4)),
            (4, 2),
            "each is from the one in its place"
        );
    }
}
