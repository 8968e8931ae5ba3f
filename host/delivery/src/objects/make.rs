//! The objects of a task: all are made first, then published.

use logship_logstore::{LogPosition, LostValues, ManifestEntry, ObjectManifest, TaskId};
use logship_sink::error::SinkError;
use logship_sink::object::Provenance;
use logship_source::shard_reader::ShardReader;

use crate::engine::Step;
use crate::engine::batch::Attempt;
use crate::engine::error::TaskError;
use crate::engine::work::Prepared;
use crate::objects::error::Changed;
use crate::objects::object::{FinishedObject, Shipped};
use crate::objects::plan::ObjectPlan;
use crate::objects::provenance::{provenance, stages_of};
use crate::objects::task_objects::{FinishedObjects, TaskObjects};
use crate::pipeline;

/// The published objects of a task.
pub(super) struct Existing {
    /// Keys of the published objects.
    pub(super) keys: Vec<String>,
    /// True if all objects of the manifest are published.
    pub(super) all: bool,
}

impl ObjectPlan {
    /// Makes the objects of a task and saves their manifest.
    pub(super) fn prepare_objects<'p>(
        &'p self,
        attempt: &Attempt<'_>,
        reader: &mut ShardReader,
    ) -> Result<Prepared<'p>, TaskError> {
        let task = attempt.task;
        let existing = self.find_existing(attempt)?;
        if existing.all {
            return Ok(done(task.end));
        }
        let id = pipeline::Task { created: task.id.created, number: task.id.number, shard: task.shard };
        let (most, sink) = (self.rule.size(), &*self.sink);
        let mut objects = TaskObjects::begin(&self.pipeline, sink, id, &task.object, most)?;
        let (end, read) = attempt.read_logs(reader, &mut objects)?;
        attempt.record_expansion(objects.size(), read);
        let FinishedObjects { objects, filtered } = objects.finish()?;
        Step::Made.reached();
        let manifest = self.manifest_of(&objects);
        if let (Some(key), Some(before)) = (existing.keys.first(), &task.manifest)
            && *before != manifest
        {
            return Err(Changed { existing: key.clone() }.into());
        }
        let mut lost = LostValues::default();
        objects.iter().for_each(|made| lost.merge(made.lost.clone()));
        attempt.save_lost(lost)?;
        attempt.save_manifest(end, manifest)?;
        if objects.is_empty() {
            return Ok(Prepared { end, filtered, is_called: false, deliver: None });
        }
        let is_missing = |made: &FinishedObject| !existing.keys.contains(&made.key);
        let missing: Vec<_> = objects.into_iter().filter(is_missing).collect();
        let deliver = Box::new(move |attempt: &Attempt<'_>| self.publish_all(attempt, end, missing));
        Ok(Prepared { end, filtered, is_called: true, deliver: Some(deliver) })
    }

    /// Finds the objects of a task's manifest that are published already.
    pub(super) fn find_existing(&self, attempt: &Attempt<'_>) -> Result<Existing, TaskError> {
        let (task, objects) = (attempt.task, attempt.task.objects());
        let mut keys = vec![];
        for ManifestEntry { object, sha256, .. } in &objects {
            match self.sink.find(object) {
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

    /// Publishes the objects of a task one by one.
    fn publish_all(
        &self,
        attempt: &Attempt<'_>,
        end: LogPosition,
        objects: Vec<FinishedObject>,
    ) -> Result<(), TaskError> {
        let (stages, heads) = (stages_of(self), attempt.heads()?);
        let mut left = objects.len();
        for made in objects {
            let provenance = provenance(attempt.task, end, heads, stages.clone(), &made);
            if let Some(shipped) = self.publish(attempt, made, &provenance)? {
                attempt.count_shipped(shipped.rows, shipped.stored_bytes);
            }
            left -= 1;
            let step = if left == 0 { Step::Published } else { Step::PartlyPublished };
            step.reached();
        }
        Ok(())
    }

    /// Publishes an object. Returns `None` if an earlier attempt published it.
    pub(super) fn publish(
        &self,
        attempt: &Attempt<'_>,
        made: FinishedObject,
        provenance: &Provenance,
    ) -> Result<Option<Shipped>, TaskError> {
        let (key, sha256) = (made.key.clone(), made.file.sha256.clone());
        let published = made.publish(&self.pipeline, &*self.sink, attempt.task.shard, provenance);
        let shipped = match published {
            Ok(shipped) => Some(shipped),
            // The object may exist all the same, from this attempt or an earlier one whose response was lost. The key
            // has the task's number in it, so without read permission an existing object counts as the task's own.
            Err(error @ (SinkError::Exists(_) | SinkError::Unavailable(_))) => {
                let found = self.sink.find(&key);
                let is_there = match (&error, found) {
                    (_, Ok(Some(found))) => found.sha256 == sha256,
                    (SinkError::Exists(_), Err(SinkError::Denied(_))) => true,
                    _ => false,
                };
                if !is_there || !is_of(&key, attempt.task.id) {
                    return Err(error.into());
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(shipped)
    }

    /// The manifest of objects. Only partitioned rules list keys: otherwise the task row has the only key.
    fn manifest_of(&self, objects: &[FinishedObject]) -> ObjectManifest {
        let entry = |made: &FinishedObject| ManifestEntry {
            object: made.key.clone(),
            rows: made.rows,
            raw_bytes: made.raw_bytes,
            stored_bytes: made.file.bytes,
            sha256: made.file.sha256.clone(),
        };
        let manifest = ObjectManifest::from_entries(objects.iter().map(entry).collect());
        if self.pipeline.is_partitioned() { manifest } else { ObjectManifest { objects: vec![], ..manifest } }
    }
}

/// A task whose objects are all published already.
pub(super) fn done<'p>(end: LogPosition) -> Prepared<'p> {
    Prepared { end, filtered: 0, is_called: true, deliver: None }
}

fn is_of(object: &str, id: TaskId) -> bool {
    object.contains(&id.to_string())
}
