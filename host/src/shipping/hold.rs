//! Rules whose stage fails every task. They make no more of them: each would take its time to fail, and what waits is
//! kept in the logstore anyway. Tasks that are there are still tried again, and one that succeeds lets the rule go on;
//! so does another stage.

use std::sync::PoisonError;

use logship_logstore::{Failing, Logstore, ShippingRule, Task};

use super::Shipper;
use super::error::TaskError;
use super::plan::Plan;

impl Shipper {
    /// Whether a rule makes no tasks now: it could not, a moment ago, or its stage fails every one.
    pub(super) fn is_held(&self, logstore: &Logstore, rule: &ShippingRule) -> bool {
        if self.lock().is_held(rule.number(), self.store.clock() / 1_000_000) {
            return true;
        }
        if !self.suspects().contains(&rule.number()) {
            return false;
        }
        let held = self.why_stage_fails(logstore, rule);
        let mut queue = self.lock();
        match held {
            Some(why) => {
                queue.hold_stage(rule.number(), why);
                true
            }
            None => false,
        }
    }

    /// Looks what a task that ended says of its rule's stage.
    pub(super) fn judge(&self, task: &Task, result: &Result<(), TaskError>) {
        let number = task.rule_number;
        let is_suspect = match result {
            Ok(()) => self.suspects().contains(&number),
            Err(error) if error.stage().is_some() => {
                self.suspects().insert(number);
                true
            }
            Err(_) => false,
        };
        if is_suspect {
            self.judge_rule(task);
        }
    }

    fn judge_rule(&self, task: &Task) {
        let catalog = self.store.catalog();
        let Ok(logstore) = catalog.logstore(&task.project, &task.logstore) else { return };
        let Some(rule) = logstore.rules.get(&task.rule).filter(|rule| rule.number() == task.rule_number)
        else {
            return;
        };
        let number = rule.number();
        match self.why_stage_fails(logstore, rule) {
            Some(why) => {
                if self.why_held(number).as_ref() != Some(&why) {
                    tracing::error!(
                        rule = rule.name,
                        logstore = logstore.name,
                        why,
                        "the rule makes no more tasks"
                    );
                }
                self.lock().hold_stage(number, why);
            }
            None => {
                if self.lock().release_stage(number) {
                    tracing::info!(rule = rule.name, logstore = logstore.name, "the rule makes tasks again");
                    self.hurry();
                }
            }
        }
    }

    /// Rules that had such a stage when the last process ended have it still.
    pub(super) fn look_for_suspects(&self) {
        let catalog = self.store.catalog();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values() {
                if self.failing(rule).is_some() {
                    self.suspects().insert(rule.number());
                    if let Some(why) = self.why_stage_fails(logstore, rule) {
                        self.lock().hold_stage(rule.number(), why);
                    }
                }
            }
        }
    }

    /// The stage that the last tasks of a rule failed in, all of them.
    fn failing(&self, rule: &ShippingRule) -> Option<Failing> {
        match self.store.failing(rule.number(), self.settings.hold_after_tasks) {
            Ok(failing) => failing,
            Err(error) => {
                tracing::error!(rule = rule.name, %error, "can't look how the last tasks of a rule ended");
                None
            }
        }
    }

    /// Why a rule is held, if the stage that its last tasks failed in is one that its next task would be made by.
    fn why_stage_fails(&self, logstore: &Logstore, rule: &ShippingRule) -> Option<String> {
        let Some(failing) = self.failing(rule) else {
            if !self.has_failed(rule) {
                self.suspects().remove(&rule.number());
            }
            return None;
        };
        let revision = self.store.catalog().stages().revision;
        let plan = self.plans.current(&logstore.project, &logstore.name, rule, revision).ok()?;
        plan.has_stage(&failing.stage).then(|| self.told(&plan, &failing))
    }

    /// Whether the last task of a rule failed in a stage.
    fn has_failed(&self, rule: &ShippingRule) -> bool {
        self.store.failing(rule.number(), 1).is_ok_and(|failing| failing.is_some())
    }

    fn told(&self, plan: &Plan, failing: &Failing) -> String {
        let stage = plan.pipeline.stages().find(|stage| stage.digest() == failing.stage);
        let stage = stage.map(|stage| format!("{} {}", stage.name(), stage.version())).unwrap_or_default();
        let count = self.settings.hold_after_tasks;
        let tasks = if count == 1 { "the last task".into() } else { format!("the last {count} tasks") };
        format!(
            "{stage} failed {tasks}, so no more are made; nothing is lost. Another version, or logship stage rollback, goes on where it was. The last one: {}",
            failing.message
        )
    }

    fn suspects(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<i64>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
