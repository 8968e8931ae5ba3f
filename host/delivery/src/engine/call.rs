//! Tasks whose object a function makes.
//!
//! The final range of a task is on disk before the function is called, since the function may publish the object and
//! its response may still be lost. A retry then makes the same object, or finds it published.

use logship_logstore::{LogPosition, ObjectManifest, Task};

use crate::engine::Shipper;
use crate::engine::error::TaskError;
use crate::engine::objects::Prepared;
use crate::engine::plan::Plan;
use crate::engine::provenance::provenance;
use crate::engine::schedule::SAMPLE;
use crate::engine::step::Step;
use crate::executor;
use crate::executor::{Answer, Function};
use crate::objects::object;
use crate::objects::object::Shipped;
use logship_source::group_list::{GroupList, ListLimits};

impl Shipper {
    /// Reads the logs of a task for a function, and fixes the end of the task on disk. Returns both.
    pub(super) fn prepare_call<'p>(
        &self,
        task: &Task,
        plan: &Plan,
        function: &'p Function,
    ) -> Result<(Prepared<'p>, LogPosition), TaskError> {
        self.stop_point(Step::Begun);
        if self.find_existing(task, plan)?.all {
            return Ok((Prepared::Done, task.end));
        }
        let shard = self.shard(task)?;
        let most = if task.is_range_fixed { NO_LIMIT } else { self.call_limit(task, plan, function) };
        let logs = GroupList::read(&self.store, &shard, task.begin, task.end, most)?;
        if logs.first_position != Some(task.begin.cursor) {
            let to = logs.first_position.unwrap_or(shard.begin());
            return Err(TaskError::Expired { from: task.begin.cursor, to });
        }
        let end = logs.end;
        if !task.is_range_fixed {
            let next_task = self.new_task_id(plan, task.shard)?;
            let next_id = next_task.0;
            if self.runtime.block_on(self.store.fix_range(task.id, end, logs.rows, next_task))? {
                self.lock().retry(task.rule_number, next_id);
            }
        }
        self.stop_point(Step::RangeFixed);
        Ok((Prepared::Call(function, logs), end))
    }

    /// Largest input of a call: the function's limit, or the estimated input of an object of the rule's size.
    fn call_limit(&self, task: &Task, plan: &Plan, function: &Function) -> ListLimits {
        let target_bytes = plan.record.rule.size() as f64 / self.lock().expansion_ratio(task.rule_number);
        let most = function.max_bytes();
        ListLimits { raw: most.raw.min(target_bytes as usize), ..most }
    }

    /// Calls a function to make the object of a task, and publishes it unless the function did.
    pub(super) fn call(
        &self,
        task: &Task,
        plan: &Plan,
        function: &Function,
        logs: GroupList,
    ) -> Result<Option<Shipped>, TaskError> {
        let (begun, rows, read, end) = (std::time::Instant::now(), logs.rows, logs.raw_bytes, logs.end);
        let response = function.call(
            executor::Call {
                task: task.id.to_string(),
                key: &task.object,
                shard: task.shard,
                range: format!("{}-{end}", task.begin),
                project: &task.project,
                logstore: &task.logstore,
                spec: &executor::spec(&plan.record.rule, &plan.pipeline),
                logs,
            },
            &*plan.sink,
            || self.is_stopping(),
        );
        let response = match response {
            None => return Err(TaskError::Stopping),
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                if error.is_too_large() {
                    // No object was made. A smaller limit in the settings may let a retry succeed.
                    self.runtime.block_on(self.store.release_range(task.id))?;
                }
                return Err(error.into());
            }
        };
        self.stop_point(Step::Made);
        let Answer { raw_bytes, stored_bytes, sha256, stages, object } = response;
        if read as u64 > SAMPLE / 4 {
            self.lock().set_expansion_ratio((task.rule_number, task.shard), raw_bytes as f64 / read as f64);
        }
        let manifest =
            ObjectManifest { rows, raw_bytes, stored_bytes, sha256: sha256.clone(), objects: vec![] };
        self.save_manifest(task, plan, end, manifest)?;
        let key = task.object.clone();
        match object {
            Some(file) => {
                let made = object::FinishedObject { key, file, rows, raw_bytes, started: begun };
                let provenance = provenance(task, end, stages, &made);
                let shipped = self.publish(task, plan, made, &provenance)?;
                self.stop_point(Step::Published);
                Ok(shipped)
            }
            None => {
                self.stop_point(Step::Published);
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

/// For a task whose range is fixed already.
const NO_LIMIT: ListLimits = ListLimits { compressed: usize::MAX, raw: usize::MAX };
