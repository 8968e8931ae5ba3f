//! One task whose object a function makes: from the logs of a shard to what the function answers.
//!
//! The range of the task is on disk before the function is called, and is what it is from then on: the object may be
//! at its place before anything is heard of it. Then the same call makes the same object, or finds it there.

use logship_logstore::{Place, Seal, Task};

use super::Shipper;
use super::error::TaskError;
use super::objects::Begun;
use super::plan::Plan;
use super::provenance::provenance;
use super::schedule::SAMPLE;
use super::step::Step;
use crate::destination::{Destination, DestinationError};
use crate::function::{self, Answer, Function};
use crate::group_list::{GroupList, Most};
use crate::object::{self, Shipped};

impl Shipper {
    /// The logs of a task for a function, and where the task ends, which is on disk.
    pub(super) fn make_call(
        &self,
        task: &Task,
        plan: &Plan,
        function: &Function,
    ) -> Result<(Begun, Place), TaskError> {
        self.at(Step::Begun);
        if self.there(task, plan)?.all {
            return Ok((Begun::Done, task.end));
        }
        let shard = self.shard(task)?;
        let most = if task.is_cut { UNBOUND } else { self.most(task, plan, function) };
        let logs = GroupList::read(&self.store, &shard, task.begin, task.end, most)?;
        if logs.first != Some(task.begin.cursor) {
            let to = logs.first.unwrap_or(shard.begin());
            return Err(TaskError::Expired { from: task.begin.cursor, to });
        }
        let end = logs.end;
        if !task.is_cut {
            let rest = self.name(plan, task.shard)?;
            let rest_id = rest.0;
            if self.runtime.block_on(self.store.cut_task(task.id, end, logs.rows, rest))? {
                self.lock().resume(task.rule_number, rest_id);
            }
        }
        self.at(Step::Cut);
        Ok((Begun::Call(logs), end))
    }

    /// How many logs a function is called with: what it takes, and what makes an object of the rule's size by all that
    /// is known.
    fn most(&self, task: &Task, plan: &Plan, function: &Function) -> Most {
        let enough = plan.record.rule.size() as f64 / self.lock().growth(task.rule_number);
        let most = function.most();
        Most { raw: most.raw.min(enough as usize), ..most }
    }

    /// Has a function make the object of a task, and bring it to its place.
    pub(super) fn call(
        &self,
        task: &Task,
        plan: &Plan,
        logs: GroupList,
    ) -> Result<Option<Shipped>, TaskError> {
        let Destination::Function(function) = &plan.destination else {
            return Err(DestinationError::Settings("it is no function".into()).into());
        };
        let (begun, rows, read, end) = (std::time::Instant::now(), logs.rows, logs.raw_bytes, logs.end);
        let called = function.call(
            function::Call {
                task: task.id.to_string(),
                key: &task.object,
                shard: task.shard,
                range: format!("{}-{end}", task.begin),
                project: &task.project,
                logstore: &task.logstore,
                spec: &function::spec(&plan.record.rule, &plan.pipeline),
                logs,
            },
            || self.has_ended(),
        );
        let answer = match called {
            None => return Err(TaskError::Ended),
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                if error.is_too_large() {
                    // Nothing was made of it: with another setting the task may be tried with less.
                    self.runtime.block_on(self.store.uncut_task(task.id))?;
                }
                return Err(DestinationError::from(error).into());
            }
        };
        self.at(Step::Made);
        let Answer { raw_bytes, stored_bytes, sha256, stages, object } = answer;
        if read as u64 > SAMPLE / 4 {
            self.lock().learn((task.rule_number, task.shard), raw_bytes as f64 / read as f64);
        }
        let seal = Seal { rows, raw_bytes, stored_bytes, sha256: sha256.clone(), objects: vec![] };
        self.seal(task, plan, end, seal)?;
        let key = task.object.clone();
        match object {
            Some(whole) => {
                let made = object::Made { key, whole, rows, raw_bytes, begun };
                let provenance = provenance(task, end, stages, &made);
                let shipped = self.publish(task, plan, made, &provenance)?;
                self.at(Step::Published);
                Ok(shipped)
            }
            None => {
                self.at(Step::Published);
                let seconds = begun.elapsed().as_secs_f64();
                let object = key;
                Ok(Some(Shipped {
                    object,
                    shard: task.shard,
                    rows,
                    raw_bytes,
                    stored_bytes,
                    sha256,
                    seconds,
                }))
            }
        }
    }
}

/// The range of a task that was cut stays as it is.
const UNBOUND: Most = Most { packed: usize::MAX, raw: usize::MAX };
