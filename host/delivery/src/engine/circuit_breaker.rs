//! Circuit breakers of rules. A breaker opens when a stage fails every task: the rule creates no more tasks, and its
//! logs stay in the logstore. Existing tasks are still retried. The breaker closes when one of them succeeds, or when
//! the stage is replaced.

use std::sync::PoisonError;

use logship_logstore::{FailingStage, Logstore, ShippingRule, Task};

use crate::engine::Shipper;
use crate::engine::error::TaskError;
use crate::engine::plan::Plan;

impl Shipper {
    /// True if a rule creates no tasks now: a recent attempt failed, or its circuit breaker is open.
    pub(super) fn is_blocked(&self, logstore: &Logstore, rule: &ShippingRule) -> bool {
        if self.lock().is_blocked(rule.number(), self.store.clock() / 1_000_000) {
            return true;
        }
        if !self.suspect_rules().contains(&rule.number()) {
            return false;
        }
        let blocked = self.circuit_reason(logstore, rule);
        let mut queue = self.lock();
        match blocked {
            Some(reason) => {
                queue.open_circuit(rule.number(), reason);
                true
            }
            None => false,
        }
    }

    /// Updates the rule's circuit breaker with the result of a task.
    pub(super) fn update_circuit_breaker(&self, task: &Task, result: &Result<(), TaskError>) {
        let number = task.rule_number;
        let is_suspect = match result {
            Ok(()) => self.suspect_rules().contains(&number),
            Err(error) if error.stage().is_some() => {
                self.suspect_rules().insert(number);
                true
            }
            Err(_) => false,
        };
        if is_suspect {
            self.update_rule_circuit(task);
        }
    }

    fn update_rule_circuit(&self, task: &Task) {
        let catalog = self.store.catalog();
        let Ok(logstore) = catalog.logstore(&task.project, &task.logstore) else { return };
        let Some(rule) = logstore.rules.get(&task.rule).filter(|rule| rule.number() == task.rule_number)
        else {
            return;
        };
        let number = rule.number();
        match self.circuit_reason(logstore, rule) {
            Some(reason) => {
                if self.problem(number).as_ref() != Some(&reason) {
                    tracing::error!(
                        rule = rule.name,
                        logstore = logstore.name,
                        reason,
                        "circuit breaker open: the rule creates no more tasks"
                    );
                }
                self.lock().open_circuit(number, reason);
            }
            None => {
                if self.lock().close_circuit(number) {
                    tracing::info!(
                        rule = rule.name,
                        logstore = logstore.name,
                        "circuit breaker closed: the rule creates tasks again"
                    );
                    self.wake();
                }
            }
        }
    }

    /// Restores open circuit breakers after a restart.
    pub(super) fn restore_circuit_breakers(&self) {
        let catalog = self.store.catalog();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values() {
                if self.failing_stage(rule).is_some() {
                    self.suspect_rules().insert(rule.number());
                    if let Some(reason) = self.circuit_reason(logstore, rule) {
                        self.lock().open_circuit(rule.number(), reason);
                    }
                }
            }
        }
    }

    /// The stage in which all of the rule's last tasks failed.
    fn failing_stage(&self, rule: &ShippingRule) -> Option<FailingStage> {
        match self.store.failing_stage(rule.number(), self.settings.hold_after_tasks) {
            Ok(failing) => failing,
            Err(error) => {
                tracing::error!(rule = rule.name, %error, "can't read the results of a rule's last tasks");
                None
            }
        }
    }

    /// The reason to open a rule's circuit breaker: its last tasks failed in a stage that its next task would use.
    fn circuit_reason(&self, logstore: &Logstore, rule: &ShippingRule) -> Option<String> {
        let Some(failing) = self.failing_stage(rule) else {
            if !self.failed_last(rule) {
                self.suspect_rules().remove(&rule.number());
            }
            return None;
        };
        let revision = self.store.catalog().stages().revision;
        let plan = self.plans.current(&logstore.project, &logstore.name, rule, revision).ok()?;
        plan.has_stage(&failing.stage).then(|| self.describe_failure(&plan, &failing))
    }

    /// True if the last task of a rule failed in a stage.
    fn failed_last(&self, rule: &ShippingRule) -> bool {
        self.store.failing_stage(rule.number(), 1).is_ok_and(|failing| failing.is_some())
    }

    fn describe_failure(&self, plan: &Plan, failing: &FailingStage) -> String {
        let stage = plan.pipeline.stages().find(|stage| stage.digest() == failing.stage);
        let stage = stage.map(|stage| format!("{} {}", stage.name(), stage.version())).unwrap_or_default();
        let count = self.settings.hold_after_tasks;
        let tasks = if count == 1 { "the last task".into() } else { format!("the last {count} tasks") };
        format!(
            "{stage} failed {tasks}, so the rule creates no more; no logs are lost. To continue, swap in another version or run logship stage rollback. Last error: {}",
            failing.message
        )
    }

    fn suspect_rules(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<i64>> {
        self.suspect_rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
