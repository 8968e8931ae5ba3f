use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logship_batch::batch::LogBatch;
use logship_batch::partition::Partition;
use logship_delivery::objects::object::{Object, ObjectError, Shipped, new_task};
use logship_delivery::objects::open_objects::{ObjectHandler, OpenObjects};
use logship_delivery::pipeline::Pipeline;
use logship_logstore::LostValues;
use logship_sink::object::ObjectSink;

/// The pipeline of a rule, its destination and the limits of its objects.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) pipeline: Pipeline,
    pub(crate) sink: Box<dyn ObjectSink>,
    /// The largest object, in bytes, before compression.
    pub(crate) size: u64,
    /// The longest time that an object stays open.
    pub(crate) time: Duration,
    /// True if a value that an object cannot hold stops the run.
    pub(crate) strict: bool,
}

/// Ships the logs of one shard, in order, to one object at a time, or to one object per partition.
#[derive(Debug)]
pub(crate) struct ShardShipper {
    open: Open,
    objects: ShardObjects,
    /// The number of logs that the transformers filtered out.
    filtered: u64,
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
        Self {
            open,
            objects: ShardObjects { plan, shard, keys: HashSet::new(), shipped: vec![] },
            filtered: 0,
        }
    }

    /// Ships the shard's next logs. Finishes an object before it exceeds the rule's size.
    pub(crate) fn push(&mut self, batch: &LogBatch) -> Result<(), ObjectError> {
        let mut logs = 0..batch.len();
        while !logs.is_empty() {
            match &mut self.open {
                Open::One(open) => {
                    let object = match open {
                        Some(object) => object,
                        none => none.insert(Box::new(self.objects.begin_one()?)),
                    };
                    logs.start = object.take(batch, logs.clone())?;
                    self.objects.check(object.lost())?;
                    if !logs.is_empty() {
                        self.finish()?;
                    }
                }
                Open::Many(many) => {
                    logs.start = many.take(batch, logs.clone(), usize::MAX, &mut self.objects)?;
                }
            }
        }
        Ok(())
    }

    /// Finishes the open objects. Discards an object without logs.
    pub(crate) fn finish(&mut self) -> Result<(), ObjectError> {
        match &mut self.open {
            Open::One(open) => {
                let open = open.take().inspect(|object| self.filtered += object.filtered());
                open.filter(|object| object.rows() > 0).map_or(Ok(()), |object| self.objects.end(*object))
            }
            Open::Many(many) => many.end_all(&mut self.objects),
        }
    }

    /// Finishes the objects that reached the rule's time.
    pub(crate) fn finish_due(&mut self) -> Result<(), ObjectError> {
        match &mut self.open {
            Open::One(_) => self.finish(),
            Open::Many(many) => many.end_due(self.objects.plan.time, &mut self.objects),
        }
    }

    /// Returns the time by which the oldest open object must be finished.
    pub(crate) fn due(&self) -> Option<Instant> {
        let started = match &self.open {
            Open::One(open) => open.as_ref().map(|object| object.started()),
            Open::Many(many) => many.started(),
        };
        started.map(|started| started + self.objects.plan.time)
    }

    /// Returns the number of logs filtered out since the last call.
    pub(crate) fn take_filtered(&mut self) -> u64 {
        let partitioned = match &mut self.open {
            Open::One(_) => 0,
            Open::Many(many) => many.take_filtered(),
        };
        std::mem::take(&mut self.filtered) + partitioned
    }

    /// Returns the objects finished since the last call.
    pub(crate) fn take_shipped(&mut self) -> Vec<Shipped> {
        std::mem::take(&mut self.objects.shipped)
    }
}

/// Creates and publishes the objects of a shard. Each object has a task of its own.
#[derive(Debug)]
struct ShardObjects {
    plan: Arc<Plan>,
    shard: u32,
    /// The keys of all partitions' objects, to detect duplicates.
    keys: HashSet<String>,
    shipped: Vec<Shipped>,
}

impl ShardObjects {
    /// Fails if values are lost and none may be.
    fn check(&self, lost: &LostValues) -> Result<(), ObjectError> {
        if self.plan.strict && !lost.is_empty() { Err(ObjectError::Lost(lost.clone())) } else { Ok(()) }
    }

    fn begin_one(&self) -> Result<Object, ObjectError> {
        let Plan { pipeline, sink, size, .. } = &*self.plan;
        let key = pipeline.key(&new_task(self.shard))?;
        Object::begin(pipeline, &**sink, key, *size)
    }
}

impl ObjectHandler for ShardObjects {
    fn pipeline(&self) -> &Pipeline {
        &self.plan.pipeline
    }

    fn begin(&mut self, partition: Partition) -> Result<Object, ObjectError> {
        let Plan { pipeline, sink, size, .. } = &*self.plan;
        let key = pipeline.partition_key(&new_task(self.shard), partition, 0)?;
        if !self.keys.insert(key.clone()) {
            return Err(pipeline.duplicate_key(key).into());
        }
        Object::begin_transformed(pipeline, &**sink, key, *size)
    }

    fn end(&mut self, object: Object) -> Result<(), ObjectError> {
        let Plan { pipeline, sink, .. } = &*self.plan;
        let made = object.finish()?;
        self.check(&made.lost)?;
        self.shipped.push(made.publish(pipeline, &**sink, self.shard, &vec![])?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logship_batch::batch::{BatchBuilder, LogGroup};
    use logship_config::rule::{PartitionBy, Rule};
    use logship_registry::Registry;
    use logship_runtime::engine::{Engine, Limits};
    use logship_sink::directory::Directory;

    fn logs(times: &[u32]) -> LogBatch {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        times.iter().for_each(|&time| builder.end_log(group, time, 0));
        builder.take()
    }

    fn shipper(folder: &std::path::Path, time: Duration, rule: &Rule) -> ShardShipper {
        let engine = Engine::new(Limits { instances: 40, ..Limits::default() }, None).unwrap();
        let pipeline = Pipeline::new(&Registry::new(engine), rule).unwrap();
        let sink = Box::new(Directory::new(folder));
        ShardShipper::new(Arc::new(Plan { pipeline, sink, size: rule.size(), time, strict: false }), 0)
    }

    fn rows(shipper: &mut ShardShipper) -> Vec<u64> {
        shipper.take_shipped().iter().map(|shipped| shipped.rows).collect()
    }

    #[test]
    fn finishes_each_partition_at_its_own_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let time = Duration::from_secs(1);
        let rule = Rule { partition_by: PartitionBy::Hour, ..Rule::default() };
        let mut shipper = shipper(folder.path(), time, &rule);
        assert_eq!(shipper.due(), None);
        shipper.push(&logs(&[0, 1])).unwrap();
        let due = shipper.due().unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        shipper.push(&logs(&[3600, 2])).unwrap();
        assert_eq!(shipper.due(), Some(due), "the oldest object decides");
        shipper.finish_due().unwrap();
        assert_eq!(rows(&mut shipper), [3], "the other object is newer");
        assert!(shipper.due().unwrap() > due);
        shipper.finish().unwrap();
        assert_eq!((rows(&mut shipper), shipper.due()), (vec![1], None));
    }

    #[test]
    fn finishes_least_recently_used_partition_at_limit() {
        let folder = tempfile::tempdir().unwrap();
        let rule = Rule { partition_by: PartitionBy::Hour, open_partitions: 2, ..Rule::default() };
        let mut shipper = shipper(folder.path(), rule.time(), &rule);
        shipper.push(&logs(&[0, 1, 2])).unwrap();
        shipper.push(&logs(&[3600, 3601])).unwrap();
        shipper.push(&logs(&[3])).unwrap();
        assert_eq!(rows(&mut shipper), Vec::<u64>::new());
        shipper.push(&logs(&[7200])).unwrap();
        assert_eq!(rows(&mut shipper), [2], "the second hour");
        // Logs of open partitions are taken first, even behind logs of the fourth hour.
        shipper.push(&logs(&[10_800, 7201, 4])).unwrap();
        assert_eq!(rows(&mut shipper), [5], "the first hour, with its late log");
        shipper.finish().unwrap();
        assert_eq!(rows(&mut shipper), [2, 1]);
    }
}
