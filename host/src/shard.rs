use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::LogBatch;
use crate::destination::Destination;
use crate::object::{Object, ObjectError, Shipped, new_task};
use crate::open_objects::{OpenObjects, Site};
use crate::partition::Partition;
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

/// Ships one shard: its logs, in order, into one object after another, or into one for each partition.
#[derive(Debug)]
pub(crate) struct ShardShipper {
    open: Open,
    site: ShardSite,
    /// Logs that were left out by the transformers.
    left_out: u64,
}

#[derive(Debug)]
enum Open {
    One(Option<Box<Object>>),
    Many(Box<OpenObjects>),
}

impl ShardShipper {
    pub(crate) fn new(plan: Arc<Plan>, shard: u32) -> Self {
        let many = OpenObjects::new(&plan.pipeline);
        let open = many.map_or(Open::One(None), |many| Open::Many(Box::new(many)));
        Self { open, site: ShardSite { plan, shard, keys: HashSet::new(), shipped: vec![] }, left_out: 0 }
    }

    /// Takes the shard's next logs. An object is cut before it outgrows the shipping size.
    pub(crate) fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let mut logs = 0..batch.len();
        while !logs.is_empty() {
            match &mut self.open {
                Open::One(open) => {
                    let object = match open {
                        Some(object) => object,
                        none => none.insert(Box::new(self.site.begin_one()?)),
                    };
                    logs.start = object.take(batch, logs.clone())?;
                    if !logs.is_empty() {
                        self.cut()?;
                    }
                }
                Open::Many(many) => {
                    logs.start = many.take(batch, logs.clone(), usize::MAX, &mut self.site)?;
                }
            }
        }
        Ok(())
    }

    /// Finishes the open objects. One without logs is given up: nobody wants an empty object.
    pub(crate) fn cut(&mut self) -> Result<(), ObjectError> {
        match &mut self.open {
            Open::One(open) => {
                let open = open.take().inspect(|object| self.left_out += object.left_out());
                open.filter(|object| object.rows() > 0).map_or(Ok(()), |object| self.site.end(*object))
            }
            Open::Many(many) => many.end_all(&mut self.site),
        }
    }

    /// Finishes those that were open for long enough, full or not.
    pub(crate) fn cut_due(&mut self) -> Result<(), ObjectError> {
        match &mut self.open {
            Open::One(_) => self.cut(),
            Open::Many(many) => many.end_due(self.site.plan.time, &mut self.site),
        }
    }

    /// When the first of the open objects must be finished, full or not.
    pub(crate) fn due(&self) -> Option<Instant> {
        let begun = match &self.open {
            Open::One(open) => open.as_ref().map(|object| object.begun()),
            Open::Many(many) => many.begun(),
        };
        begun.map(|begun| begun + self.site.plan.time)
    }

    /// How many logs were left out since the last call.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        let of_many = match &mut self.open {
            Open::One(_) => 0,
            Open::Many(many) => many.take_left_out(),
        };
        std::mem::take(&mut self.left_out) + of_many
    }

    /// The objects that were finished since the last call.
    pub(crate) fn take_shipped(&mut self) -> Vec<Shipped> {
        std::mem::take(&mut self.site.shipped)
    }
}

/// Where the objects of a shard are made. Each has a task of its own.
#[derive(Debug)]
struct ShardSite {
    plan: Arc<Plan>,
    shard: u32,
    /// Those of all objects of partitions.
    keys: HashSet<String>,
    shipped: Vec<Shipped>,
}

impl ShardSite {
    fn begin_one(&self) -> Result<Object, ObjectError> {
        let Plan { pipeline, destination, size, .. } = &*self.plan;
        let key = pipeline.key(&new_task(self.shard))?;
        Object::begin(pipeline, destination, key, *size)
    }
}

impl Site for ShardSite {
    fn pipeline(&self) -> &Pipeline {
        &self.plan.pipeline
    }

    fn begin(&mut self, partition: Partition) -> Result<Object, ObjectError> {
        let Plan { pipeline, destination, size, .. } = &*self.plan;
        let key = pipeline.key_in(&new_task(self.shard), partition, 0)?;
        if !self.keys.insert(key.clone()) {
            return Err(pipeline.same_key(key).into());
        }
        Object::begin_behind_transforms(pipeline, destination, key, *size)
    }

    fn end(&mut self, object: Object) -> Result<(), ObjectError> {
        let Plan { pipeline, destination, .. } = &*self.plan;
        let made = object.finish()?;
        self.shipped.push(made.publish(pipeline, destination, self.shard, &vec![])?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, LogGroup};
    use crate::directory::Directory;
    use crate::engine::{Engine, Limits};
    use crate::registry::Registry;
    use crate::rule::{PartitionBy, Rule};

    fn logs(times: &[u32]) -> LogBatch {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        times.iter().for_each(|&time| builder.end_log(group, time, 0));
        builder.take()
    }

    fn shipper(folder: &std::path::Path, time: Duration, rule: &Rule) -> ShardShipper {
        let engine = Engine::new(Limits { instances: 40, ..Limits::default() }, None).unwrap();
        let pipeline = Pipeline::new(&Registry::new(engine), rule).unwrap();
        let destination = Destination::Directory(Directory::new(folder));
        ShardShipper::new(Arc::new(Plan { pipeline, destination, size: rule.size(), time }), 0)
    }

    fn rows(shipper: &mut ShardShipper) -> Vec<u64> {
        shipper.take_shipped().iter().map(|shipped| shipped.rows).collect()
    }

    #[test]
    fn an_object_of_an_hour_is_finished_when_its_own_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let time = Duration::from_secs(1);
        let rule = Rule { partition_by: PartitionBy::Hour, ..Rule::default() };
        let mut shipper = shipper(folder.path(), time, &rule);
        assert_eq!(shipper.due(), None);
        shipper.push(&logs(&[0, 1])).unwrap();
        let due = shipper.due().unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        shipper.push(&logs(&[3600, 2])).unwrap();
        assert_eq!(shipper.due(), Some(due), "the first of them decides");
        shipper.cut_due().unwrap();
        assert_eq!(rows(&mut shipper), [3], "the other is not open for so long");
        assert!(shipper.due().unwrap() > due);
        shipper.cut().unwrap();
        assert_eq!((rows(&mut shipper), shipper.due()), (vec![1], None));
    }

    #[test]
    fn that_which_got_no_log_for_longest_is_finished_for_one_more() {
        let folder = tempfile::tempdir().unwrap();
        let rule = Rule { partition_by: PartitionBy::Hour, open_partitions: 2, ..Rule::default() };
        let mut shipper = shipper(folder.path(), rule.time(), &rule);
        shipper.push(&logs(&[0, 1, 2])).unwrap();
        shipper.push(&logs(&[3600, 3601])).unwrap();
        shipper.push(&logs(&[3])).unwrap();
        assert_eq!(rows(&mut shipper), Vec::<u64>::new());
        shipper.push(&logs(&[7200])).unwrap();
        assert_eq!(rows(&mut shipper), [2], "the second hour");
        // What is open comes first, though logs of the fourth hour are before it.
        shipper.push(&logs(&[10_800, 7201, 4])).unwrap();
        assert_eq!(rows(&mut shipper), [5], "the first hour, with its late log");
        shipper.cut().unwrap();
        assert_eq!(rows(&mut shipper), [2, 1]);
    }
}
