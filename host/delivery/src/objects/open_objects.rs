//! The open objects of a rule that partitions by the time of logs: one for each hour or day.
//!
//! Logs arrive in any order, including late ones. Each log goes into the open object of its partition. If the
//! partition has none, an object is begun. Each open object has instances of the stages, so their number is
//! limited: beyond the limit, the least recently written object is finished. Its partition may get another
//! object later.
//!
//! The result depends only on the logs and their order: a retried task makes the same objects.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::objects::object::{
    Object, ObjectError, count_source_logs, end_before_split_log, end_of_first_source_log,
};
use crate::pipeline::Pipeline;
use crate::pipeline::transforms;
use logship_batch::batch::LogBatch;
use logship_batch::partition::{Partition, PartitionLogs, Partitioner};
use logship_runtime::stage::TransformingSession;

/// Begins the objects of partitions, and takes them when they are complete.
pub trait ObjectHandler {
    /// Returns the pipeline of the objects.
    fn pipeline(&self) -> &Pipeline;

    /// Begins an object for logs that are already transformed.
    fn begin(&mut self, partition: Partition) -> Result<Object, ObjectError>;

    /// Takes an object that gets no more logs.
    fn end(&mut self, object: Object) -> Result<(), ObjectError>;
}

/// The open objects, with the transformers of their logs.
#[derive(Debug)]
pub struct OpenObjects {
    partitioner: Partitioner,
    /// `None` until they are opened. They restart after each finished object, as for rules without
    /// partitions.
    transformers: Option<Vec<TransformingSession>>,
    /// The most recently written object is the last.
    open: Vec<(Partition, Object)>,
    /// Maximum number of open objects.
    max_open: usize,
    filtered: u64,
}

impl OpenObjects {
    /// Returns `None` if the rule does not partition by the time of logs.
    pub fn new(pipeline: &Pipeline) -> Option<Self> {
        let partitioner = pipeline.partitioner()?;
        let max_open = pipeline.open_partitions();
        Some(Self { partitioner, transformers: None, open: vec![], max_open, filtered: 0 })
    }

    /// Transforms logs and appends each to the object of its partition. Returns the index of the first log
    /// not accepted. It is the log that would need more than `max_new` new partitions.
    pub fn take(
        &mut self,
        batch: &LogBatch,
        logs: Range<usize>,
        max_new: usize,
        handler: &mut impl ObjectHandler,
    ) -> Result<usize, ObjectError> {
        let is_whole = logs.len() == batch.len();
        let input = if is_whole { Cow::Borrowed(batch) } else { Cow::Owned(batch.slice(logs.clone())) };
        let transformers = match &mut self.transformers {
            Some(transformers) => transformers,
            empty => empty.insert(handler.pipeline().open_transforms()?),
        };
        let transformed = transforms::apply(transformers, &input, 0..input.len())?;
        let (transformed, origins) = match &transformed {
            Some(transformed) => (&transformed.batch, &transformed.logs[..]),
            None => (&*input, &[][..]),
        };
        let mut partitions = self.partitioner.split(&transformed.times);
        let end = self.limit_new_partitions(&mut partitions, transformed.len(), origins, max_new);
        // Partitions with an open object come first: none of them is evicted while it has logs to take.
        partitions.sort_by_key(|split| (!self.is_open(split.partition), split.partition));
        for PartitionLogs { partition, logs } in &partitions {
            match logs {
                None => self.fill(*partition, transformed, origins, handler)?,
                Some(logs) => {
                    let from: Vec<u32> =
                        logs.iter().filter_map(|&log| origins.get(log as usize).copied()).collect();
                    self.fill(*partition, &transformed.select(logs), &from, handler)?;
                }
            }
        }
        let origin = |log: usize| origins.get(log).map_or(log, |&log| log as usize);
        let taken = if end == transformed.len() { input.len() } else { origin(end) };
        self.filtered += taken as u64 - count_source_logs(origins, end);
        Ok(logs.start + taken)
    }

    /// Removes new partitions beyond `max_new`, and all logs from the first log of a removed partition on. Returns
    /// the number of remaining logs. Keeps or removes logs of the same source log together.
    fn limit_new_partitions(
        &self,
        partitions: &mut Vec<PartitionLogs>,
        count: usize,
        origins: &[u32],
        max_new: usize,
    ) -> usize {
        let first = |split: &PartitionLogs| split.logs.as_ref().map_or(0, |logs| logs[0] as usize);
        let new = partitions.iter().filter(|split| !self.is_open(split.partition));
        // Partitions are sorted by their first log.
        let Some(overflow) = new.map(first).nth(max_new) else { return count };
        let end = match end_before_split_log(origins, 0..overflow) {
            0 => end_of_first_source_log(origins, 0..count),
            end => end,
        };
        for split in partitions.iter_mut() {
            if let Some(logs) = &mut split.logs {
                logs.truncate(logs.partition_point(|&log| (log as usize) < end));
            }
        }
        partitions.retain(|split| split.logs.as_ref().is_none_or(|logs| !logs.is_empty()));
        end
    }

    /// Appends logs of a partition to its object, and to further objects when one is full.
    fn fill(
        &mut self,
        partition: Partition,
        batch: &LogBatch,
        origins: &[u32],
        handler: &mut impl ObjectHandler,
    ) -> Result<(), ObjectError> {
        let mut logs = 0..batch.len();
        while !logs.is_empty() {
            let (_, object) = self.object(partition, handler)?;
            logs.start = object.fill(batch, logs.clone(), origins)?;
            if !logs.is_empty()
                && let Some((_, full)) = self.open.pop()
            {
                self.end(full, handler)?;
            }
        }
        Ok(())
    }

    /// Returns the open object of a partition and moves it to the end of the list.
    fn object(
        &mut self,
        partition: Partition,
        handler: &mut impl ObjectHandler,
    ) -> Result<&mut (Partition, Object), ObjectError> {
        let found = match self.open.iter().position(|(of, _)| *of == partition) {
            Some(place) => self.open.remove(place),
            None => {
                while self.open.len() >= self.max_open {
                    let (_, oldest) = self.open.remove(0);
                    self.end(oldest, handler)?;
                }
                (partition, handler.begin(partition)?)
            }
        };
        let last = self.open.len();
        self.open.push(found);
        Ok(&mut self.open[last])
    }

    fn end(&mut self, object: Object, handler: &mut impl ObjectHandler) -> Result<(), ObjectError> {
        self.transformers = None;
        handler.end(object)
    }

    /// Finishes all objects, in the order of their partitions.
    pub fn end_all(&mut self, handler: &mut impl ObjectHandler) -> Result<(), ObjectError> {
        self.open.sort_by_key(|(partition, _)| *partition);
        std::mem::take(&mut self.open).into_iter().try_for_each(|(_, object)| self.end(object, handler))
    }

    /// Finishes the objects that have been open for at least `time`.
    pub fn end_due(&mut self, time: Duration, handler: &mut impl ObjectHandler) -> Result<(), ObjectError> {
        let is_due = |(_, object): &mut (Partition, Object)| object.started().elapsed() >= time;
        let due: Vec<_> = self.open.extract_if(.., is_due).collect();
        due.into_iter().try_for_each(|(_, object)| self.end(object, handler))
    }

    /// Returns the start time of the oldest open object.
    pub fn started(&self) -> Option<Instant> {
        self.open.iter().map(|(_, object)| object.started()).min()
    }

    /// Returns the sizes of the open objects before compression, in bytes: the largest, and the total.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let sizes = self.open.iter().map(|(_, object)| object.size());
        (sizes.clone().max().unwrap_or(0), sizes.sum())
    }

    /// Returns the number of logs that the transformers filtered since the last call.
    pub fn take_filtered(&mut self) -> u64 {
        std::mem::take(&mut self.filtered)
    }

    fn is_open(&self, partition: Partition) -> bool {
        self.open.iter().any(|(of, _)| *of == partition)
    }
}
