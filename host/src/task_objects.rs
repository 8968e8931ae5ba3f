//! All objects of a task: one, or as many as the rule makes of it that partitions by the time of logs.

use std::collections::HashMap;
use std::ops::Range;

use crate::batch::LogBatch;
use crate::destination::Destination;
use crate::object::{Made, Object, ObjectError};
use crate::open_objects::{OpenObjects, Site};
use crate::partition::Partition;
use crate::pipeline::{Pipeline, Task};
use crate::rule::MOST_OPEN_PARTITIONS;

/// Objects of a task, about: with so many it ends. Each is a file until all are whole.
const MOST_OBJECTS: usize = MOST_OPEN_PARTITIONS as usize;

/// The objects of a task in the making.
#[derive(Debug)]
pub(crate) struct TaskObjects<'a>(Making<'a>);

#[derive(Debug)]
enum Making<'a> {
    One(Box<Object>),
    Many {
        open: Box<OpenObjects>,
        site: TaskSite<'a>,
        /// The most that the size of an object grew by with one batch.
        step: u64,
    },
}

/// The objects of a task, all of whose bytes are there.
#[derive(Debug)]
pub(crate) struct AllMade {
    /// In the order in which they were begun.
    pub(crate) objects: Vec<Made>,
    /// Logs that were left out by the transformers.
    pub(crate) left_out: u64,
}

impl<'a> TaskObjects<'a> {
    /// Begins the objects of a task, of at most `most` bytes each before compression. `key` is that of the only one, where it
    /// is known.
    pub(crate) fn begin(
        pipeline: &'a Pipeline,
        destination: &'a Destination,
        task: Task,
        key: &str,
        most: u64,
    ) -> Result<Self, ObjectError> {
        Ok(Self(match OpenObjects::new(pipeline) {
            None => Making::One(Box::new(Object::begin(pipeline, destination, key.to_owned(), most)?)),
            Some(open) => {
                let site = TaskSite { pipeline, destination, task, most, keys: HashMap::new(), made: vec![] };
                Making::Many { open: Box::new(open), site, step: 0 }
            }
        }))
    }

    /// Takes logs. Returns where those begin that belong to another task: then this one ends there.
    pub(crate) fn take(&mut self, batch: &LogBatch, logs: Range<usize>) -> Result<usize, ObjectError> {
        match &mut self.0 {
            Making::One(object) => object.take(batch, logs),
            Making::Many { open, site, step } => {
                let before = open.sizes().0;
                let most = MOST_OBJECTS.saturating_sub(site.keys.len()).max(1);
                let taken = open.take(batch, logs, most, site)?;
                *step = (*step).max(open.sizes().0.saturating_sub(before));
                Ok(taken)
            }
        }
    }

    /// Whether the task is to end before the next batch: the largest object may be too large with it, so that a small one
    /// were to come behind it, or there are many.
    pub(crate) fn is_full(&self) -> bool {
        match &self.0 {
            // It says so itself, in the middle of a batch.
            Making::One(_) => false,
            Making::Many { open, site, step } => {
                !site.keys.is_empty()
                    && (open.sizes().0 + step > site.most || site.keys.len() >= MOST_OBJECTS)
            }
        }
    }

    /// Bytes before compression so far.
    pub(crate) fn size(&self) -> u64 {
        match &self.0 {
            Making::One(object) => object.size(),
            Making::Many { open, site, .. } => {
                open.sizes().1 + site.made.iter().map(|made| made.raw_bytes).sum::<u64>()
            }
        }
    }

    /// Ends all of them. There is none if no log was left.
    pub(crate) fn finish(self) -> Result<AllMade, ObjectError> {
        match self.0 {
            Making::One(object) => {
                let left_out = object.left_out();
                let objects = if object.rows() > 0 { vec![object.finish()?] } else { vec![] };
                Ok(AllMade { objects, left_out })
            }
            Making::Many { mut open, mut site, .. } => {
                open.end_all(&mut site)?;
                let TaskSite { keys, mut made, .. } = site;
                made.sort_by_key(|made| keys.get(&made.key).copied());
                Ok(AllMade { objects: made, left_out: open.take_left_out() })
            }
        }
    }
}

/// Where the objects of a task are made.
#[derive(Debug)]
struct TaskSite<'a> {
    pipeline: &'a Pipeline,
    destination: &'a Destination,
    task: Task,
    most: u64,
    /// The keys, and which object has them.
    keys: HashMap<String, u32>,
    made: Vec<Made>,
}

impl Site for TaskSite<'_> {
    fn pipeline(&self) -> &Pipeline {
        self.pipeline
    }

    fn begin(&mut self, partition: Partition) -> Result<Object, ObjectError> {
        let number = self.keys.len() as u32;
        let key = self.pipeline.key_in(&self.task, partition, number)?;
        if self.keys.insert(key.clone(), number).is_some() {
            return Err(self.pipeline.same_key(key).into());
        }
        Object::begin_behind_transforms(self.pipeline, self.destination, key, self.most)
    }

    fn end(&mut self, object: Object) -> Result<(), ObjectError> {
        self.made.push(object.finish()?);
        Ok(())
    }
}
