use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::LogBatch;
use crate::directory::Directory;
use crate::object::{Object, ObjectError, Shipped};
use crate::pipeline::Pipeline;

/// How many times its weight a log may take in an object without making it too large. JSON escapes
/// a control character as six.
const WORST_GROWTH: u64 = 8;

/// An object is full when less than this part of its size is left.
const SLACK: u64 = 64;

/// What becomes objects: where to, and how large.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) pipeline: Pipeline,
    pub(crate) store: Directory,
    /// The largest object before compression, in bytes.
    pub(crate) size: u64,
    /// How long an object may stay open.
    pub(crate) time: Duration,
}

/// Ships one shard: its logs, in order, into one object after another.
#[derive(Debug)]
pub(crate) struct ShardShipper {
    plan: Arc<Plan>,
    shard: u32,
    open: Option<Object>,
    shipped: Vec<Shipped>,
}

impl ShardShipper {
    pub(crate) fn new(plan: Arc<Plan>, shard: u32) -> Self {
        Self { plan, shard, open: None, shipped: Vec::new() }
    }

    /// Takes the shard's next logs. An object is cut before it outgrows the shipping size.
    pub(crate) fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let mut logs = 0..batch.len();
        while !logs.is_empty() {
            let plan = Arc::clone(&self.plan);
            let object = match &mut self.open {
                Some(object) => object,
                none => none.insert(Object::begin(&plan.pipeline, &plan.store, self.shard)?),
            };
            let left = plan.size.saturating_sub(object.size());
            let fits = fitting(batch, logs.clone(), left);
            let full = left < plan.size / SLACK || fits.is_empty();
            if full && object.size() > 0 {
                self.cut()?;
                continue;
            }
            // A log that is too large for any object has one of its own.
            let part = if fits.is_empty() { logs.start..logs.start + 1 } else { fits };
            logs.start = part.end;
            if part.len() == batch.len() {
                object.push(batch)?;
            } else {
                object.push(&batch.slice(part))?;
            }
        }
        Ok(())
    }

    /// Finishes the open object, if there is one.
    pub(crate) fn cut(&mut self) -> Result<(), ObjectError> {
        if let Some(object) = self.open.take() {
            self.shipped.push(object.finish()?);
        }
        Ok(())
    }

    /// When the open object must be finished, full or not.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|object| object.begun() + self.plan.time)
    }

    /// The objects that were finished since the last call.
    pub(crate) fn take_shipped(&mut self) -> Vec<Shipped> {
        std::mem::take(&mut self.shipped)
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
