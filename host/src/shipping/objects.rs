//! The objects of a task: made, all of them, and then brought to their destination.

use logship_logstore::{Limits, Place, Seal, SealedObject, Shard, Task, TaskId};

use super::Shipper;
use super::error::TaskError;
use super::plan::Plan;
use super::provenance::{provenance, stages_of};
use super::schedule::SAMPLE;
use super::step::Step;
use super::work::count_shipped;
use crate::destination::{DestinationError, Provenance};
use crate::group_list::GroupList;
use crate::object::{self, Shipped};
use crate::pipeline;
use crate::source::{CHUNK, ShardReader};
use crate::task_objects::{AllMade, TaskObjects};

/// What a task has come to, when the next of its shard can begin.
pub(super) enum Begun {
    /// Its objects, sealed: those that are not at their destination already. And how many logs its rule's transformers
    /// left out.
    Objects(Vec<object::Made>, u64),
    /// No log was left for an object: how many its rule's transformers left out.
    Nothing(u64),
    /// Its logs, for a function.
    Call(GroupList),
    /// Its objects are at their destination already.
    Done,
}

/// What of a task is at its destination.
pub(super) struct There {
    /// The keys of its objects that are.
    pub(super) keys: Vec<String>,
    /// Whether that is all that there is to be.
    pub(super) all: bool,
}

impl Shipper {
    /// The objects of a task, sealed, and where it ends. None if they are at their destination already, or if no log is left
    /// for them.
    pub(super) fn make_objects(
        &self,
        task: &Task,
        plan: &Plan,
        reader: &mut ShardReader,
    ) -> Result<(Begun, Place), TaskError> {
        self.at(Step::Begun);
        let there = self.there(task, plan)?;
        if there.all {
            return Ok((Begun::Done, task.end));
        }
        let shard = self.shard(task)?;
        let (objects, end, read) = self.encode(task, plan, &shard, reader)?;
        if read > SAMPLE / 4 {
            self.lock().learn((task.rule_number, task.shard), objects.size() as f64 / read as f64);
        }
        let AllMade { objects, left_out } = objects.finish()?;
        self.at(Step::Made);
        let seal = sealed(plan, &objects);
        if let (Some(key), Some(before)) = (there.keys.first(), &task.seal)
            && *before != seal
        {
            return Err(TaskError::Changed { there: key.clone() });
        }
        self.seal(task, plan, end, seal)?;
        if objects.is_empty() {
            return Ok((Begun::Nothing(left_out), end));
        }
        let missing = objects.into_iter().filter(|made| !there.keys.contains(&made.key)).collect();
        Ok((Begun::Objects(missing, left_out), end))
    }

    /// Which objects of a task are at their destination, as they were before.
    pub(super) fn there(&self, task: &Task, plan: &Plan) -> Result<There, TaskError> {
        let objects = task.objects();
        let mut keys = vec![];
        for SealedObject { object, sha256, .. } in &objects {
            match plan.destination.find(object) {
                Ok(Some(found)) if found.sha256 == *sha256 => keys.push(object.clone()),
                Ok(Some(_)) => return Err(DestinationError::Exists(object.clone()).into()),
                Ok(None) => {}
                // Who may only write, or not even look, finds out by writing.
                Err(DestinationError::Denied(_) | DestinationError::Unseen(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(There { all: task.seal.is_some() && keys.len() == objects.len(), keys })
    }

    /// Writes down what the objects of a task are, and where the task ends.
    pub(super) fn seal(&self, task: &Task, plan: &Plan, end: Place, seal: Seal) -> Result<(), TaskError> {
        if let Some(before) = task.seal.as_ref().filter(|before| **before != seal) {
            tracing::warn!(task = %task.id, sha256 = seal.sha256, before = before.sha256, "a stage made other bytes than before; none were at the destination");
        }
        let rest = self.name(plan, task.shard)?;
        let rest_id = rest.0;
        if self.runtime.block_on(self.store.seal_task(task.id, end, seal, rest))? {
            self.lock().resume(task.rule_number, rest_id);
        }
        self.at(Step::Sealed);
        Ok(())
    }

    /// Encodes the logs of a task, as many as its objects take. Returns where it ends, and how many bytes were read.
    fn encode<'a>(
        &self,
        task: &Task,
        plan: &'a Plan,
        shard: &Shard,
        reader: &mut ShardReader,
    ) -> Result<(TaskObjects<'a>, Place, u64), TaskError> {
        let most = plan.record.rule.size();
        let id = pipeline::Task { created: task.id.created, number: task.id.number, shard: task.shard };
        let mut objects = TaskObjects::begin(&plan.pipeline, &plan.destination, id, &task.object, most)?;
        let limits = Limits { groups: usize::MAX, bytes: CHUNK, end: task.end.behind() };
        let (mut at, mut read) = (task.begin, 0);
        while at < task.end && !objects.is_full() {
            if self.has_ended() {
                return Err(TaskError::Ended);
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

    /// Brings the objects of a task to their destination, one after the other.
    pub(super) fn publish_all(
        &self,
        task: &Task,
        plan: &Plan,
        end: Place,
        objects: Vec<object::Made>,
    ) -> Result<(), TaskError> {
        let stages = stages_of(plan);
        let mut left = objects.len();
        for made in objects {
            let provenance = provenance(task, end, stages.clone(), &made);
            let shipped = self.publish(task, plan, made, &provenance)?;
            shipped.iter().for_each(|shipped| count_shipped(task, shipped));
            left -= 1;
            self.at(if left == 0 { Step::Published } else { Step::Partly });
        }
        Ok(())
    }

    /// Brings an object to its destination.
    pub(super) fn publish(
        &self,
        task: &Task,
        plan: &Plan,
        made: object::Made,
        provenance: &Provenance,
    ) -> Result<Option<Shipped>, TaskError> {
        let (key, sha256) = (made.key.clone(), made.whole.sha256.clone());
        let published = made.publish(&plan.pipeline, &plan.destination, task.shard, provenance);
        let shipped = match published {
            Ok(shipped) => Some(shipped),
            // It may be there all the same, from this time or an earlier one that could not say so. The key has the
            // task's number in it; who may only write can't look, and takes it for that.
            Err(error @ (DestinationError::Exists(_) | DestinationError::Remote(_))) => {
                let found = plan.destination.find(&key);
                let is_there = match (&error, found) {
                    (_, Ok(Some(found))) => found.sha256 == sha256,
                    (DestinationError::Exists(_), Err(DestinationError::Denied(_))) => true,
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

/// What is written down of objects. The key of the only one of other rules is known already.
fn sealed(plan: &Plan, objects: &[object::Made]) -> Seal {
    let sealed = |made: &object::Made| SealedObject {
        object: made.key.clone(),
        rows: made.rows,
        raw_bytes: made.raw_bytes,
        stored_bytes: made.whole.bytes,
        sha256: made.whole.sha256.clone(),
    };
    let seal = Seal::of(objects.iter().map(sealed).collect());
    if plan.pipeline.is_partitioned() { seal } else { Seal { objects: vec![], ..seal } }
}

fn is_of(object: &str, id: TaskId) -> bool {
    object.contains(&id.to_string())
}
