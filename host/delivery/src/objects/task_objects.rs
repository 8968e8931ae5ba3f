//! All objects of a task: one object, or several if the rule partitions by the time of logs.

use std::collections::HashMap;
use std::ops::Range;

use crate::objects::object::{FinishedObject, Object, ObjectError};
use crate::objects::open_objects::{ObjectHandler, OpenObjects};
use crate::pipeline::{Pipeline, Task};
use logship_batch::batch::LogBatch;
use logship_batch::partition::Partition;
use logship_config::rule::MAX_OPEN_PARTITIONS;
use logship_sink::object::ObjectSink;

/// Approximate number of objects at which a task ends. Each is a local file until all are finished.
const MAX_OBJECTS: usize = MAX_OPEN_PARTITIONS as usize;

/// The objects of a task that are being written.
#[derive(Debug)]
pub struct TaskObjects<'a>(Writers<'a>);

#[derive(Debug)]
enum Writers<'a> {
    Single(Box<Object>),
    Partitioned {
        open: Box<OpenObjects>,
        handler: TaskObjectHandler<'a>,
        /// Largest growth of an object's size by one batch, in bytes.
        step: u64,
    },
}

/// All objects of a task, complete in local files.
#[derive(Debug)]
pub struct FinishedObjects {
    /// In the order of their start.
    pub objects: Vec<FinishedObject>,
    /// Number of logs that the transformers filtered.
    pub filtered: u64,
}

impl<'a> TaskObjects<'a> {
    /// Begins the objects of a task, each of at most `max_bytes` bytes before compression. `key` is the key
    /// of the only object, if it is known.
    pub fn begin(
        pipeline: &'a Pipeline,
        sink: &'a dyn ObjectSink,
        task: Task,
        key: &str,
        max_bytes: u64,
    ) -> Result<Self, ObjectError> {
        Ok(Self(match OpenObjects::new(pipeline) {
            None => Writers::Single(Box::new(Object::begin(pipeline, sink, key.to_owned(), max_bytes)?)),
            Some(open) => {
                let handler = TaskObjectHandler {
                    pipeline,
                    sink,
                    task,
                    max_bytes,
                    keys: HashMap::new(),
                    finished: vec![],
                };
                Writers::Partitioned { open: Box::new(open), handler, step: 0 }
            }
        }))
    }

    /// Appends logs. Returns the index of the first log that belongs to the next task: this task ends there.
    pub fn take(&mut self, batch: &LogBatch, logs: Range<usize>) -> Result<usize, ObjectError> {
        match &mut self.0 {
            Writers::Single(object) => object.take(batch, logs),
            Writers::Partitioned { open, handler, step } => {
                let before = open.sizes().0;
                let max_bytes = MAX_OBJECTS.saturating_sub(handler.keys.len()).max(1);
                let taken = open.take(batch, logs, max_bytes, handler)?;
                *step = (*step).max(open.sizes().0.saturating_sub(before));
                Ok(taken)
            }
        }
    }

    /// True if the task must end before the next batch. That is the case if the next batch could overfill the
    /// largest object, which would leave a small object behind it, or if there are too many objects.
    pub fn is_full(&self) -> bool {
        match &self.0 {
            // A single object reports this itself, within a batch.
            Writers::Single(_) => false,
            Writers::Partitioned { open, handler, step } => {
                !handler.keys.is_empty()
                    && (open.sizes().0 + step > handler.max_bytes || handler.keys.len() >= MAX_OBJECTS)
            }
        }
    }

    /// Returns the size so far, in bytes before compression.
    pub(crate) fn size(&self) -> u64 {
        match &self.0 {
            Writers::Single(object) => object.size(),
            Writers::Partitioned { open, handler, .. } => {
                open.sizes().1 + handler.finished.iter().map(|finished| finished.raw_bytes).sum::<u64>()
            }
        }
    }

    /// Finishes all objects. There are none if every log was filtered.
    pub fn finish(self) -> Result<FinishedObjects, ObjectError> {
        match self.0 {
            Writers::Single(object) => {
                let filtered = object.filtered();
                let objects = if object.rows() > 0 { vec![object.finish()?] } else { vec![] };
                Ok(FinishedObjects { objects, filtered })
            }
            Writers::Partitioned { mut open, mut handler, .. } => {
                open.end_all(&mut handler)?;
                let TaskObjectHandler { keys, mut finished, .. } = handler;
                finished.sort_by_key(|finished| keys.get(&finished.key).copied());
                Ok(FinishedObjects { objects: finished, filtered: open.take_filtered() })
            }
        }
    }
}

/// Begins the objects of a task and collects the finished ones.
#[derive(Debug)]
struct TaskObjectHandler<'a> {
    pipeline: &'a Pipeline,
    sink: &'a dyn ObjectSink,
    task: Task,
    max_bytes: u64,
    /// The keys, with the number of the object that has each.
    keys: HashMap<String, u32>,
    finished: Vec<FinishedObject>,
}

impl ObjectHandler for TaskObjectHandler<'_> {
    fn pipeline(&self) -> &Pipeline {
        self.pipeline
    }

    fn begin(&mut self, partition: Partition) -> Result<Object, ObjectError> {
        let number = self.keys.len() as u32;
        let key = self.pipeline.partition_key(&self.task, partition, number)?;
        if self.keys.insert(key.clone(), number).is_some() {
            return Err(self.pipeline.duplicate_key(key).into());
        }
        Object::begin_transformed(self.pipeline, self.sink, key, self.max_bytes)
    }

    fn end(&mut self, object: Object) -> Result<(), ObjectError> {
        self.finished.push(object.finish()?);
        Ok(())
    }
}
