//! The objects of a task: all are made first, then published.

use logship_logstore::{Limits, LogPosition, ManifestEntry, ObjectManifest, Shard, Task, TaskId};

use crate::engine::Shipper;
use crate::engine::attempt::count_shipped;
use crate::engine::error::TaskError;
use crate::engine::plan::Plan;
use crate::engine::provenance::{provenance, stages_of};
use crate::engine::schedule::SAMPLE;
use crate::engine::step::Step;
use crate::executor::Function;
use crate::objects::object;
use crate::objects::object::Shipped;
use crate::objects::task_objects::{FinishedObjects, TaskObjects};
use crate::pipeline;
use logship_sink::error::SinkError;
use logship_sink::object::Provenance;
use logship_source::group_list::GroupList;
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader};

/// The state of a task once its end is known. The shard's next task can begin then.
pub(super) enum Prepared<'p> {
    /// Objects that are in the manifest but not published yet, and the number of filtered logs.
    Objects(Vec<object::FinishedObject>, u64),
    /// No object, since the transformers filtered all logs. Has the number of filtered logs.
    Nothing(u64),
    /// A function, and the logs for it.
    Call(&'p Function, GroupList),
    /// All objects are published already.
    Done,
}

/// The published objects of a task.
pub(super) struct Existing {
    /// Keys of the published objects.
    pub(super) keys: Vec<String>,
    /// True if all objects of the manifest are published.
    pub(super) all: bool,
}

impl Shipper {
    /// Makes the objects of a task and saves their manifest. Returns the unpublished objects and the end of the task.
    pub(super) fn prepare_objects(
        &self,
        task: &Task,
        plan: &Plan,
        reader: &mut ShardReader,
    ) -> Result<(Prepared<'static>, LogPosition), TaskError> {
        self.stop_point(Step::Begun);
        let existing = self.find_existing(task, plan)?;
        if existing.all {
            return Ok((Prepared::Done, task.end));
        }
        let shard = self.shard(task)?;
        let (objects, end, read) = self.encode(task, plan, &shard, reader)?;
        if read > SAMPLE / 4 {
            self.lock()
                .set_expansion_ratio((task.rule_number, task.shard), objects.size() as f64 / read as f64);
        }
        let FinishedObjects { objects, filtered } = objects.finish()?;
        self.stop_point(Step::Made);
        let manifest = manifest_of(plan, &objects);
        if let (Some(key), Some(before)) = (existing.keys.first(), &task.manifest)
            && *before != manifest
        {
            return Err(TaskError::Changed { existing: key.clone() });
        }
        self.save_manifest(task, plan, end, manifest)?;
        if objects.is_empty() {
            return Ok((Prepared::Nothing(filtered), end));
        }
        let missing = objects.into_iter().filter(|made| !existing.keys.contains(&made.key)).collect();
        Ok((Prepared::Objects(missing, filtered), end))
    }

    /// Finds the objects of a task's manifest that are published already.
    pub(super) fn find_existing(&self, task: &Task, plan: &Plan) -> Result<Existing, TaskError> {
        let objects = task.objects();
        let mut keys = vec![];
        for ManifestEntry { object, sha256, .. } in &objects {
            match plan.sink.find(object) {
                Ok(Some(found)) if found.sha256 == *sha256 => keys.push(object.clone()),
                Ok(Some(_)) => return Err(SinkError::Exists(object.clone()).into()),
                Ok(None) => {}
                // Without read permission, the write will tell.
                Err(SinkError::Denied(_) | SinkError::UnknownStore(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Existing { all: task.manifest.is_some() && keys.len() == objects.len(), keys })
    }

    /// Saves the manifest of a task's objects, and the end of the task.
    pub(super) fn save_manifest(
        &self,
        task: &Task,
        plan: &Plan,
        end: LogPosition,
        manifest: ObjectManifest,
    ) -> Result<(), TaskError> {
        if let Some(before) = task.manifest.as_ref().filter(|before| **before != manifest) {
            tracing::warn!(task = %task.id, sha256 = manifest.sha256, before = before.sha256, "a stage made different bytes than before; none were published");
        }
        let next_task = self.new_task_id(plan, task.shard)?;
        let next_id = next_task.0;
        if self.runtime.block_on(self.store.save_manifest(task.id, end, manifest, next_task))? {
            self.lock().retry(task.rule_number, next_id);
        }
        self.stop_point(Step::ManifestSaved);
        Ok(())
    }

    /// Encodes the logs of a task until its objects are full. Returns the end of the task and the bytes read.
    fn encode<'a>(
        &self,
        task: &Task,
        plan: &'a Plan,
        shard: &Shard,
        reader: &mut ShardReader,
    ) -> Result<(TaskObjects<'a>, LogPosition, u64), TaskError> {
        let most = plan.record.rule.size();
        let id = pipeline::Task { created: task.id.created, number: task.id.number, shard: task.shard };
        let mut objects = TaskObjects::begin(&plan.pipeline, &*plan.sink, id, &task.object, most)?;
        let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end: task.end.end_cursor() };
        let (mut at, mut read) = (task.begin, 0);
        while at < task.end && !objects.is_full() {
            if self.is_stopping() {
                return Err(TaskError::Stopping);
            }
            let slice = reader.read(&self.store, shard, at.cursor, limits)?;
            match slice.groups.first() {
                Some(&(first, _)) if first == at.cursor => {}
                other => {
                    let to = other.map_or(shard.begin(), |&(first, _)| first);
                    return Err(TaskError::Expired { from: at.cursor, to });
                }
            }
            let end = slice.logs_before(task.end);
            let taken = objects.take(&slice.batch, at.log as usize..end)?;
            read += slice.batch.bytes() as u64;
            at = slice.place(taken);
            if taken < end {
                break;
            }
        }
        Ok((objects, at, read))
    }

    /// Publishes the objects of a task one by one.
    pub(super) fn publish_all(
        &self,
        task: &Task,
        plan: &Plan,
        end: LogPosition,
        objects: Vec<object::FinishedObject>,
    ) -> Result<(), TaskError> {
        let stages = stages_of(plan);
        let mut left = objects.len();
        for made in objects {
            let provenance = provenance(task, end, stages.clone(), &made);
            let shipped = self.publish(task, plan, made, &provenance)?;
            shipped.iter().for_each(|shipped| count_shipped(task, shipped));
            left -= 1;
            self.stop_point(if left == 0 { Step::Published } else { Step::PartlyPublished });
        }
        Ok(())
    }

    /// Publishes an object. Returns `None` if an earlier attempt published it.
    pub(super) fn publish(
        &self,
        task: &Task,
        plan: &Plan,
        made: object::FinishedObject,
        provenance: &Provenance,
    ) -> Result<Option<Shipped>, TaskError> {
        let (key, sha256) = (made.key.clone(), made.file.sha256.clone());
        let published = made.publish(&plan.pipeline, &*plan.sink, task.shard, provenance);
        let shipped = match published {
            Ok(shipped) => Some(shipped),
            // The object may exist all the same, from this attempt or an earlier one whose response was lost. The key
            // has the task's number in it, so without read permission an existing object counts as the task's own.
            Err(error @ (SinkError::Exists(_) | SinkError::Unavailable(_))) => {
                let found = plan.sink.find(&key);
                let is_there = match (&error, found) {
                    (_, Ok(Some(found))) => found.sha256 == sha256,
                    (SinkError::Exists(_), Err(SinkError::Denied(_))) => true,
                    _ => false,
                };
                if !is_there || !is_of(&key, task.id) {
                    return Err(error.into());
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(shipped)
    }
}

/// The manifest of objects. Only partitioned rules list keys: otherwise the task row has the only key.
fn manifest_of(plan: &Plan, objects: &[object::FinishedObject]) -> ObjectManifest {
    let entry = |made: &object::FinishedObject| ManifestEntry {
        object: made.key.clone(),
        rows: made.rows,
        raw_bytes: made.raw_bytes,
        stored_bytes: made.file.bytes,
        sha256: made.file.sha256.clone(),
    };
    let manifest = ObjectManifest::from_entries(objects.iter().map(entry).collect());
    if plan.pipeline.is_partitioned() { manifest } else { ObjectManifest { objects: vec![], ..manifest } }
}

fn is_of(object: &str, id: TaskId) -> bool {
    object.contains(&id.to_string())
}
