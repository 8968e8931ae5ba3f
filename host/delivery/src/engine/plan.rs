//! Plans of tasks: a rule and its stages, pinned by digest.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use logship_config::rule_secrets;
use logship_logstore::{ShippingRule, TaskId};
use logship_runtime::stage::{Identity, StageError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::error::PlanError;

/// The stored plan of a task: everything that determines its output. `R` is the rule of a kind of work; the name of
/// its field tells the kinds apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord<R> {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule, with stages pinned by digest.
    #[serde(flatten)]
    pub rule: R,
    /// Name and version of each stage.
    pub stages: Vec<String>,
    /// SHA-256 of the formatter, which rules that send events name only here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl<R> PlanRecord<R> {
    /// Creates the record of a rule of a logstore, with its stages pinned by digest.
    pub(crate) fn new<'a>(
        (project, logstore): (&str, &str),
        rule: R,
        stages: impl IntoIterator<Item = &'a Identity>,
    ) -> Self {
        let stages = stages.into_iter().map(|stage| format!("{} {}", stage.name(), stage.version()));
        let (project, logstore, stages) = (project.to_owned(), logstore.to_owned(), stages.collect());
        Self { project, logstore, rule, stages, digest: None }
    }
}

impl<R: DeserializeOwned> PlanRecord<R> {
    /// Parses a stored plan.
    ///
    /// # Errors
    /// When it is the plan of another kind of work, or of another version of logship.
    pub fn parse(content: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(content)
    }

    /// Summarizes a stored plan. `describe` returns the name and the configuration of the rule.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn summarize(
        content: &str,
        describe: impl FnOnce(R) -> (String, Value),
    ) -> Result<PlanSummary, PlanError> {
        let Self { project, logstore, rule, stages, digest } = Self::parse(content)?;
        let (rule, configuration) = describe(rule);
        let configuration = rule_secrets::mask(&configuration);
        Ok(PlanSummary { project, logstore, stages, digest, rule, configuration })
    }
}

/// A stored plan in the terms of its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSummary {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// Name and version of each stage.
    pub stages: Vec<String>,
    /// SHA-256 of the formatter.
    pub digest: Option<String>,
    /// The name of the rule.
    pub rule: String,
    /// The rule's configuration, with masked secrets.
    pub configuration: Value,
}

/// A plan that is ready to run: its stages are opened, its destination is known.
pub trait Plan: Debug + Send + Sync {
    /// Returns the stored form.
    fn content(&self) -> &str;

    /// Returns the stages.
    fn stages(&self) -> Vec<&Identity>;

    /// Returns the function that runs the stages, if one does.
    fn function(&self) -> Option<&str> {
        None
    }

    /// Returns the name of a task's output: an object key, or the receiver. Empty if it depends on the logs.
    ///
    /// # Errors
    /// When a stage fails to name it.
    fn output_name(&self, task: TaskId, shard: u32) -> Result<String, StageError>;
}

/// The largest number of cached plans of existing tasks. The cache is cleared beyond it.
const MAX_CACHED_PLANS: usize = 4096;

/// Caches the plans in use.
#[derive(Debug)]
pub struct PlanCache<P: ?Sized> {
    /// Plans of existing tasks, by stored record and current destination.
    restored: Mutex<HashMap<String, Arc<P>>>,
    /// Plans for the next tasks, by rule number.
    current: Mutex<HashMap<i64, Current<P>>>,
}

/// The plan for the next task of a rule. Valid until the rule or a stage alias changes.
#[derive(Debug)]
struct Current<P: ?Sized> {
    rule: ShippingRule,
    revision: i64,
    plan: Arc<P>,
}

impl<P: ?Sized> Default for PlanCache<P> {
    fn default() -> Self {
        Self { restored: Mutex::default(), current: Mutex::default() }
    }
}

impl<P: ?Sized> PlanCache<P> {
    /// Returns the plan for the next task of a rule. The cached plan is valid until the rule or the
    /// [revision](logship_logstore::StageAliases::revision) of the stage aliases changes. `build` learns if only the
    /// revision has changed.
    pub(crate) fn current<E>(
        &self,
        rule: &ShippingRule,
        revision: i64,
        build: impl FnOnce(bool) -> Result<Arc<P>, E>,
    ) -> Result<Arc<P>, E> {
        let mut is_swapped = false;
        if let Some(known) = lock(&self.current).get(&rule.number())
            && known.rule == *rule
        {
            if known.revision == revision {
                return Ok(Arc::clone(&known.plan));
            }
            is_swapped = true;
        }
        let plan = build(is_swapped)?;
        let current = Current { rule: rule.clone(), revision, plan: Arc::clone(&plan) };
        lock(&self.current).insert(rule.number(), current);
        Ok(plan)
    }

    /// Returns the plan of an existing task. `key` is its stored form, with everything that changes how it is opened.
    pub(crate) fn restore<E>(
        &self,
        key: String,
        open: impl FnOnce() -> Result<Arc<P>, E>,
    ) -> Result<Arc<P>, E> {
        if let Some(plan) = lock(&self.restored).get(&key) {
            return Ok(Arc::clone(plan));
        }
        let plan = open()?;
        let mut restored = lock(&self.restored);
        if restored.len() >= MAX_CACHED_PLANS {
            restored.clear();
        }
        restored.insert(key, Arc::clone(&plan));
        Ok(plan)
    }

    /// Evicts plans of existing tasks that no task uses now.
    pub(crate) fn evict_unused(&self) {
        lock(&self.restored).retain(|_, plan| Arc::strong_count(plan) > 1);
    }

    /// Removes the plans of deleted rules.
    pub(crate) fn retain_rules(&self, exists: impl Fn(i64) -> bool) {
        lock(&self.current).retain(|&rule, _| exists(rule));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
