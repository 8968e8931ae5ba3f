//! Circuit breakers. A breaker opens when a stage fails every time, and closes when it succeeds or is replaced. No logs
//! are lost meanwhile: they stay in the logstore.
//!
//! In streams, the calls of a stage count. In batches, the tasks of a rule count, as they are on disk: the rule creates
//! no more tasks while its breaker is open, and the retries of existing tasks probe the stage.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logship_logstore::{FailingStage, Logstore, ShippingRule, Task};
use logship_runtime::stage::Identity;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::engine::DeliveryEngine;
use crate::engine::error::TaskError;
use crate::engine::work::BatchPlan;

/// Counts the consecutive failures of a stage.
#[derive(Debug)]
pub struct CircuitBreaker {
    failures: AtomicUsize,
    /// Consecutive failures that open the circuit breaker; `None`: it never opens.
    threshold: Option<usize>,
    /// Lets one caller at a time retry a failing stage.
    probe: Semaphore,
}

impl CircuitBreaker {
    /// Creates a closed circuit breaker, which opens after `threshold` consecutive failures.
    pub fn new(threshold: Option<usize>) -> Self {
        Self { failures: AtomicUsize::new(0), threshold, probe: Semaphore::new(1) }
    }

    /// Records the result of a call.
    pub fn record(&self, is_success: bool) {
        match is_success {
            true => self.observe(0),
            false => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Sets the number of consecutive failures.
    fn observe(&self, failures: usize) {
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// Returns the number of consecutive failures.
    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns true if the last call failed.
    pub fn is_failing(&self) -> bool {
        self.failures() > 0
    }

    /// Returns true if the circuit breaker is open.
    pub fn is_open(&self) -> bool {
        self.threshold.is_some_and(|threshold| self.failures() >= threshold)
    }

    /// Waits for the permit to call a failing stage. `None` if the stage does not fail.
    pub async fn probe(&self) -> Option<SemaphorePermit<'_>> {
        if self.is_failing() { self.probe.acquire().await.ok() } else { None }
    }

    /// Describes an open circuit breaker. `failed` says how often the stage failed.
    pub fn describe(stage: &Identity, failed: &str, error: &str) -> String {
        let (name, version) = (stage.name(), stage.version());
        format!(
            "{name} {version} failed {failed}; no logs are lost. To continue, swap in another version or run logship stage rollback. Last error: {error}"
        )
    }
}

/// The circuit breakers of rules with batches, by rule number. A rule without one has had no failing stage.
#[derive(Debug, Default)]
pub(super) struct RuleBreakers(Mutex<HashMap<i64, Arc<CircuitBreaker>>>);

impl RuleBreakers {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Arc<CircuitBreaker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, rule: i64, threshold: usize) -> Arc<CircuitBreaker> {
        let breaker = || Arc::new(CircuitBreaker::new(Some(threshold)));
        Arc::clone(self.lock().entry(rule).or_insert_with(breaker))
    }

    fn is_failing(&self, rule: i64) -> bool {
        self.lock().get(&rule).is_some_and(|breaker| breaker.is_failing())
    }
}

impl DeliveryEngine {
    /// True if a rule creates no tasks now: a recent attempt failed, or its circuit breaker is open.
    pub(super) fn is_paused(&self, logstore: &Logstore, rule: &ShippingRule) -> bool {
        if self.pauses.is_paused(rule.number(), self.store.clock() / 1_000_000) {
            return true;
        }
        if !self.breakers.is_failing(rule.number()) {
            return false;
        }
        match self.circuit_reason(logstore, rule) {
            Some(reason) => {
                self.pauses.open_circuit(rule.number(), reason);
                true
            }
            None => false,
        }
    }

    /// Updates the rule's circuit breaker with the result of a task.
    pub(super) fn update_circuit_breaker(&self, task: &Task, result: &Result<(), TaskError>) {
        let number = task.rule_number;
        let is_suspect = match result {
            Ok(()) => self.breakers.is_failing(number),
            Err(error) if error.stage().is_some() => {
                self.breakers.of(number, self.settings.hold_after_tasks).record(false);
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
                self.pauses.open_circuit(number, reason);
            }
            None => {
                if self.pauses.close_circuit(number) {
                    tracing::info!(
                        rule = rule.name,
                        logstore = logstore.name,
                        "circuit breaker closed: the rule creates tasks again"
                    );
                    self.wake_pool();
                }
            }
        }
    }

    /// Restores open circuit breakers after a restart.
    pub(super) fn restore_circuit_breakers(&self) {
        let catalog = self.store.catalog();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values().filter(|rule| !self.is_stream(rule)) {
                if self.failing_stage(rule).is_some()
                    && let Some(reason) = self.circuit_reason(logstore, rule)
                {
                    self.pauses.open_circuit(rule.number(), reason);
                }
            }
        }
    }

    /// The stage in which all of the rule's last tasks failed. Sets the rule's circuit breaker.
    fn failing_stage(&self, rule: &ShippingRule) -> Option<FailingStage> {
        let (number, threshold) = (rule.number(), self.settings.hold_after_tasks);
        let failing = match self.store.failing_stage(number, threshold) {
            Ok(failing) => failing,
            Err(error) => {
                tracing::error!(rule = rule.name, %error, "can't read the results of a rule's last tasks");
                None
            }
        };
        let failed_last = || self.store.failing_stage(number, 1).is_ok_and(|failing| failing.is_some());
        match &failing {
            Some(_) => self.breakers.of(number, threshold).observe(threshold.max(1)),
            None if failed_last() => self.breakers.of(number, threshold).observe(1),
            None => drop(self.breakers.lock().remove(&number)),
        }
        failing
    }

    /// The reason to open a rule's circuit breaker: its last tasks failed in a stage that its next task would use.
    fn circuit_reason(&self, logstore: &Logstore, rule: &ShippingRule) -> Option<String> {
        let failing = self.failing_stage(rule)?;
        let revision = self.store.catalog().stages().revision;
        let plan = self.current_plan(&logstore.project, &logstore.name, rule, revision).ok()?;
        self.describe_failure(&*plan, &failing)
    }

    /// Describes the failures of a stage. `None` if the plan has another stage now.
    fn describe_failure(&self, plan: &dyn BatchPlan, failing: &FailingStage) -> Option<String> {
        let count = self.settings.hold_after_tasks;
        let tasks = if count == 1 { "the last task".into() } else { format!("the last {count} tasks") };
        let failed = format!("{tasks}, so the rule creates no more");
        if plan.function() == Some(&failing.stage) {
            return Some(format!(
                "a stage of the function {} failed {failed}; no logs are lost. To continue, correct the stages in its spin.toml: the retries of the tasks find out. Last error: {}",
                failing.stage, failing.message
            ));
        }
        let stage = plan.stages().into_iter().find(|stage| stage.digest() == failing.stage)?;
        Some(CircuitBreaker::describe(stage, &failed, &failing.message))
    }
}
