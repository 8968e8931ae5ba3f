//! Sealed tasks: everything that is not shipped yet, for a backup.

use std::sync::PoisonError;

use logship_logstore::{LogPosition, Logstore, NewTask, ShippingRule, Snapshot, StoreError};

use crate::engine::DeliveryEngine;
use crate::engine::error::TaskError;
use crate::engine::lifecycle::Creation;

/// The attempts to seal the logs of a rule while its stages change.
const ATTEMPTS: usize = 10;

/// The state of the store at one moment, in which all logs of batch rules belong to sealed tasks.
#[derive(Debug)]
pub struct Sealed {
    /// The state of the store, before the tasks were created.
    pub snapshot: Snapshot,
    /// The tasks to add to it, each with the number of its rule.
    pub tasks: Vec<(i64, NewTask)>,
    /// The numbers of the rules whose logs all belong to tasks: these make the same objects again.
    pub repeatable_rules: Vec<i64>,
}

impl DeliveryEngine {
    /// Puts all logs of batch rules that are not shipped yet into sealed tasks. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn seal(&self) -> Result<Sealed, StoreError> {
        let creation = self.pool.creation.write().unwrap_or_else(PoisonError::into_inner);
        // Their remainders must not be mixed with later logs.
        self.runtime.block_on(self.store.seal_open_tasks())?;
        let snapshot = self.store.snapshot()?;
        let (mut tasks, mut repeatable_rules) = (vec![], vec![]);
        let catalog = self.store.catalog();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values() {
                match self.seal_rule(&snapshot, logstore, rule, &mut tasks) {
                    Ok(true) => repeatable_rules.push(rule.number()),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(rule = rule.name, %error, "the logs of a rule are not in tasks: it will wait after a restore of this backup");
                    }
                }
            }
        }
        drop(creation);
        // The new tasks have no jobs yet.
        self.recover_orphans()?;
        Ok(Sealed { snapshot, tasks, repeatable_rules })
    }

    /// Seals the logs of a rule. Returns false if the rule delivers no batches now.
    fn seal_rule(
        &self,
        snapshot: &Snapshot,
        logstore: &Logstore,
        rule: &ShippingRule,
        tasks: &mut Vec<(i64, NewTask)>,
    ) -> Result<bool, TaskError> {
        if self.is_stream(rule) || self.waits(rule.number()) {
            return Ok(false);
        }
        let limits = self.batch_work(rule)?.limits(rule)?;
        if !limits.enabled {
            return Ok(false);
        }
        let ratio = self.lock().expansion_ratio(rule.number());
        let bytes = ((limits.policy.size as f64 / ratio) as u64).clamp(1, limits.policy.max_log_bytes);
        for shard in &logstore.shards {
            let mut from = None;
            loop {
                let (begin, backlog) = snapshot.unshipped(rule, shard, from, bytes)?;
                if backlog.bytes == 0 {
                    break;
                }
                let end = LogPosition::at(backlog.next);
                let task = self.create_sealed(logstore, rule, shard.number, begin..end, backlog.newest)?;
                tasks.push((rule.number(), task));
                from = Some(end);
            }
        }
        Ok(true)
    }

    fn create_sealed(
        &self,
        logstore: &Logstore,
        rule: &ShippingRule,
        shard: u32,
        range: std::ops::Range<LogPosition>,
        received: u64,
    ) -> Result<NewTask, TaskError> {
        let mut attempts = 0;
        loop {
            let revision = self.store.catalog().stages().revision;
            let plan = self.current_plan(&logstore.project, &logstore.name, rule, revision)?;
            let task = self.lifecycle.new_task(&*plan, revision, shard, range.clone(), received)?;
            let task = NewTask { is_sealed: true, ..task };
            match self.runtime.block_on(self.lifecycle.create(rule, task.clone())) {
                Ok(Creation::Created(_)) => return Ok(task),
                Ok(Creation::NextAt(next)) => return Err(StoreError::NextTaskMoved(next).into()),
                Err(StoreError::StagesChanged) if attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
