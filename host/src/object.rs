//! Objects in the making, and those that were written.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::batch::LogBatch;
use crate::directory::{Directory, ObjectFile, StoreError};
use crate::pipeline::{Encoding, Finished, Pipeline, Task};
use crate::stage::StageError;

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
    /// From its first log to the moment when it was on disk.
    pub seconds: f64,
}

/// Why an object failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An object in the making: its bytes go to the store as they come.
#[derive(Debug)]
pub(crate) struct Object {
    task: Task,
    key: String,
    encoding: Encoding,
    file: ObjectFile,
    rows: u64,
    /// Uncompressed bytes so far.
    size: u64,
    begun: Instant,
}

impl Object {
    pub(crate) fn begin(pipeline: &Pipeline, store: &Directory, shard: u32) -> Result<Self, ObjectError> {
        let task = new_task(shard);
        let key = pipeline.key(&task)?;
        let encoding = pipeline.open()?;
        let file = store.create(&key, pipeline.header_room())?;
        Ok(Self { task, key, encoding, file, rows: 0, size: 0, begun: Instant::now() })
    }

    pub(crate) fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let bytes = self.encoding.push(batch)?;
        self.size = self.encoding.size()?;
        self.rows += batch.len() as u64;
        Ok(self.file.write(&bytes)?)
    }

    /// Uncompressed bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    pub(crate) fn finish(mut self) -> Result<Shipped, ObjectError> {
        let Finished { ending, raw_bytes } = self.encoding.finish()?;
        self.file.write(&ending.trailer)?;
        Ok(Shipped {
            object: self.key,
            shard: self.task.shard,
            rows: self.rows,
            raw_bytes,
            stored_bytes: self.file.finish(&ending.header)?,
            seconds: self.begun.elapsed().as_secs_f64(),
        })
    }
}

/// A task of its own for an object: the time, and a random number of seven digits.
fn new_task(shard: u32) -> Task {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let number = fastrand::u64(1_000_000..10_000_000);
    Task { created: created.try_into().unwrap_or(u64::MAX), number, shard }
}
