//! Tasks whose object a function makes.
//!
//! The final range of a task is on disk before the function is called, since the function may publish the object and
//! its response may still be lost. A retry then makes the same object, or finds it published.

use std::time::Instant;

use logship_logstore::{LostValues, ObjectManifest};
use logship_source::group_list::{GroupList, ListLimits};

use crate::engine::Step;
use crate::engine::batch::Attempt;
use crate::engine::error::{Failure, TaskError};
use crate::engine::work::Prepared;
use crate::executor::{self, Answer, Function};
use crate::objects::make::done;
use crate::objects::object::FinishedObject;
use crate::objects::plan::ObjectPlan;
use crate::objects::provenance::provenance;

impl ObjectPlan {
    /// Reads the logs of a task for a function, and fixes the end of the task on disk.
    pub(super) fn prepare_call<'p>(
        &'p self,
        attempt: &Attempt<'_>,
        function: &'p Function,
    ) -> Result<Prepared<'p>, TaskError> {
        let task = attempt.task;
        if self.find_existing(attempt)?.all {
            return Ok(done(task.end));
        }
        let shard = attempt.shard()?;
        let most = if task.is_range_fixed { NO_LIMIT } else { self.call_limit(attempt, function) };
        let logs = GroupList::read(attempt.store(), &shard, task.begin, task.end, most)?;
        if logs.first_position != Some(shard.resolve(task.begin.cursor)) {
            let to = logs.first_position.unwrap_or(shard.begin());
            return Err(attempt.expired(task.begin.cursor, to));
        }
        let end = logs.end;
        if !task.is_range_fixed {
            attempt.fix_range(end, logs.rows)?;
        }
        Step::RangeFixed.reached();
        let deliver = Box::new(move |attempt: &Attempt<'_>| self.call(attempt, function, logs));
        Ok(Prepared { end, filtered: 0, is_called: true, deliver: Some(deliver) })
    }

    /// Largest input of a call: the function's limit, or the estimated input of an object of the rule's size.
    fn call_limit(&self, attempt: &Attempt<'_>, function: &Function) -> ListLimits {
        let target_bytes = self.rule.size() as f64 / attempt.expansion_ratio();
        let most = function.max_bytes();
        ListLimits { raw: most.raw.min(target_bytes as usize), ..most }
    }

    /// Calls a function to make the object of a task, and publishes it unless the function did.
    fn call(&self, attempt: &Attempt<'_>, function: &Function, logs: GroupList) -> Result<(), TaskError> {
        let task = attempt.task;
        let (begun, rows, read, end) = (Instant::now(), logs.rows, logs.raw_bytes, logs.end);
        let heads = attempt.heads()?;
        let response = function.call(
            executor::Call {
                task: task.id.to_string(),
                key: &task.object,
                shard: task.shard,
                range: format!("{}-{end}", task.begin),
                project: &task.project,
                logstore: &task.logstore,
                spec: &executor::spec(&self.rule, &self.pipeline),
                heads,
                logs,
            },
            &*self.sink,
            || attempt.is_stopping(),
        );
        let response = match response {
            None => return Err(TaskError::Stopping),
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                if error.is_too_large() {
                    // No object was made. A smaller limit in the settings may let a retry succeed.
                    attempt.release_range()?;
                }
                let stage_failed = error.is_stage_failure().then(|| function.url().to_owned());
                let mut failure = Failure::from(error);
                failure.function = stage_failed;
                return Err(failure.into());
            }
        };
        Step::Made.reached();
        let Answer { raw_bytes, stored_bytes, sha256, stages, lost, object } = response;
        attempt.record_expansion(raw_bytes, read as u64);
        attempt.save_lost(lost)?;
        let manifest = ObjectManifest { rows, raw_bytes, stored_bytes, sha256, objects: vec![] };
        attempt.save_manifest(end, manifest)?;
        let is_new = match object {
            Some(file) => {
                let key = task.object.clone();
                let lost = LostValues::default();
                let made = FinishedObject { key, file, rows, raw_bytes, started: begun, lost };
                let provenance = provenance(task, end, heads, stages, &made);
                self.publish(attempt, made, &provenance)?.is_some()
            }
            None => true,
        };
        Step::Published.reached();
        if is_new {
            attempt.count_shipped(rows, stored_bytes);
        }
        Ok(())
    }
}

/// For a task whose range is fixed already.
const NO_LIMIT: ListLimits = ListLimits { compressed: usize::MAX, raw: usize::MAX };
