use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::LogBatch;
use crate::destination::Destination;
use crate::object::{Object, ObjectError, Shipped, new_task};
use crate::pipeline::Pipeline;

/// What becomes objects: where to, and how large.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) pipeline: Pipeline,
    pub(crate) destination: Destination,
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
    /// Logs that were left out by the transformers.
    left_out: u64,
}

impl ShardShipper {
    pub(crate) fn new(plan: Arc<Plan>, shard: u32) -> Self {
        Self { plan, shard, open: None, shipped: Vec::new(), left_out: 0 }
    }

    /// Takes the shard's next logs. An object is cut before it outgrows the shipping size.
    pub(crate) fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let mut logs = 0..batch.len();
        while !logs.is_empty() {
            let object = match &mut self.open {
                Some(object) => object,
                none => {
                    let Plan { pipeline, destination, size, .. } = &*self.plan;
                    let key = pipeline.key(&new_task(self.shard))?;
                    none.insert(Object::begin(pipeline, destination, key, *size)?)
                }
            };
            logs.start = object.take(batch, logs.clone())?;
            if !logs.is_empty() {
                self.cut()?;
            }
        }
        Ok(())
    }

    /// Finishes the open object, if there is one. One without logs is given up: nobody wants an empty object.
    pub(crate) fn cut(&mut self) -> Result<(), ObjectError> {
        let open = self.open.take().inspect(|object| self.left_out += object.left_out());
        if let Some(object) = open.filter(|object| object.rows() > 0) {
            let Plan { pipeline, destination, .. } = &*self.plan;
            let made = object.finish()?;
            self.shipped.push(made.publish(pipeline, destination, self.shard, &vec![])?);
        }
        Ok(())
    }

    /// When the open object must be finished, full or not.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|object| object.begun() + self.plan.time)
    }

    /// How many logs were left out since the last call.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// The objects that were finished since the last call.
    pub(crate) fn take_shipped(&mut self) -> Vec<Shipped> {
        std::mem::take(&mut self.shipped)
    }
}
