//! Kinds of work: the part of a delivery that differs between objects, events and others.
//!
//! A kind of work implements [`Work`], and either [`BatchWork`] or [`StreamWork`]: the engine has a driver for each.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use logship_config::stage_name::ComponentDigest;
use logship_logstore::{LogPosition, ShippingRule};
use logship_registry::Registry;
use logship_sink::object::ObjectInfo;
use logship_source::shard_reader::ShardReader;
use serde_json::Value;
use tokio::sync::watch;

use crate::engine::batch::{Attempt, BatchPolicy, ConcurrencyLimit, LogSample};
use crate::engine::error::{PlanError, TaskError};
use crate::engine::plan::{Plan, PlanCache, PlanSummary};
use crate::engine::preview::{Candidate, OutputFactory, PreviewError};
use crate::engine::stream::ShardTasks;

/// A rule as clients set it.
#[derive(Debug, Clone, Copy)]
pub struct RuleSpec<'a> {
    /// The project.
    pub project: &'a str,
    /// The logstore.
    pub logstore: &'a str,
    /// The name.
    pub name: &'a str,
    /// The configuration.
    pub configuration: &'a Value,
}

impl<'a> RuleSpec<'a> {
    /// Returns the spec of a rule in a logstore.
    pub fn of(project: &'a str, logstore: &'a str, rule: &'a ShippingRule) -> Self {
        Self { project, logstore, name: &rule.name, configuration: &rule.configuration }
    }
}

/// A kind of work: what the rules of a target type make of logs, and how it is delivered.
pub trait Work: Debug + Send + Sync + 'static {
    /// Returns the target type of its rules.
    fn target(&self) -> &'static str;

    /// Checks a rule: its stages exist and accept their settings, and its destination exists. Does not connect to it.
    ///
    /// # Errors
    /// The first problem.
    fn check(&self, rule: RuleSpec<'_>) -> Result<(), PlanError>;

    /// Checks that a registry has the stages of a rule, and that they accept its settings.
    ///
    /// # Errors
    /// The first problem.
    fn check_stages(&self, rule: RuleSpec<'_>, registry: &Registry) -> Result<(), PlanError>;

    /// Checks that a rule can deliver. Blocks.
    ///
    /// # Errors
    /// The answer of the destination.
    fn probe(&self, _rule: RuleSpec<'_>) -> Result<(), PlanError> {
        Ok(())
    }

    /// Summarizes a stored plan.
    ///
    /// # Errors
    /// When the plan is not one of this kind.
    fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError>;

    /// Returns the components that a rule pins by digest.
    ///
    /// # Errors
    /// When the rule is wrong.
    fn rule_components(&self, rule: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError>;

    /// Returns the components of a stored plan.
    ///
    /// # Errors
    /// When the plan is not one of this kind.
    fn plan_components(&self, content: &str) -> Result<Vec<ComponentDigest>, PlanError>;

    /// Opens the outputs with which a preview compares a stage. Checks that the rule can use the stage.
    ///
    /// # Errors
    /// When the rule has no slot for the stage, or can't use it.
    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError>;
}

/// Work in batches: a task is due when its logs fill an output, or after a time. A pool of threads runs the tasks.
pub trait BatchWork: Work {
    /// Returns the limits of a rule.
    ///
    /// # Errors
    /// When the rule is wrong.
    fn limits(&self, rule: &ShippingRule) -> Result<RuleLimits, PlanError>;

    /// Returns the concurrency limits of all destinations that have one. Each such call blocks a thread.
    fn concurrency_limits(&self) -> Vec<ConcurrencyLimit> {
        vec![]
    }

    /// Builds the plan of a rule. Does not connect to the destination.
    ///
    /// # Errors
    /// When the rule, a stage or the destination is wrong.
    fn build(&self, rule: RuleSpec<'_>) -> Result<Arc<dyn BatchPlan>, PlanError>;

    /// Restores a stored plan. `rule` is the rule as it is now, whose credentials may be newer.
    ///
    /// # Errors
    /// When the plan can't be read, or its stages or destination can't be opened.
    fn restore(
        &self,
        content: &str,
        rule: Option<&ShippingRule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError>;
}

/// The limits that a rule sets for its batches.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleLimits {
    /// False if the rule creates no tasks.
    pub enabled: bool,
    /// The size and age of a batch.
    pub policy: BatchPolicy,
    /// The concurrency limit of its destination; `None` if this process makes the output.
    pub concurrency: Option<ConcurrencyLimit>,
}

/// The plan of batches.
pub trait BatchPlan: Plan {
    /// Encodes a sample of logs. Returns its size, in bytes of output. Default: the size of the logs, which limits the
    /// tasks of rules that write rows.
    ///
    /// # Errors
    /// When a stage fails, or the logs can't be read.
    fn encode_sample(&self, mut sample: LogSample<'_>) -> Result<u64, TaskError> {
        let mut bytes = 0;
        while let Some(batch) = sample.read()? {
            bytes += batch.bytes() as u64;
        }
        Ok(bytes)
    }

    /// Makes the output of a task, and saves its manifest. Nothing is visible at the destination yet.
    ///
    /// # Errors
    /// When the output can't be made. The task keeps its range.
    fn prepare<'p>(
        &'p self,
        attempt: &Attempt<'_>,
        reader: &mut ShardReader,
    ) -> Result<Prepared<'p>, TaskError>;

    /// Finds an object at the destination. Reads it. Blocks. Default: `None`, for destinations without objects.
    ///
    /// # Errors
    /// The answer of the destination.
    fn find(&self, _object: &str) -> Result<Option<ObjectInfo>, PlanError> {
        Ok(None)
    }
}

/// Delivers the output of a task.
pub type Deliver<'p> = Box<dyn FnOnce(&Attempt<'_>) -> Result<(), TaskError> + 'p>;

/// The state of a task once its end is known. The shard's next task can begin then.
pub struct Prepared<'p> {
    /// The end of the task.
    pub end: LogPosition,
    /// Number of logs that the transformers filtered.
    pub filtered: u64,
    /// True if the destination is called, or was called already.
    pub is_called: bool,
    /// Delivers the output; `None` if it is delivered already, or there is none.
    pub deliver: Option<Deliver<'p>>,
}

/// Work in streams: the logs of each shard are delivered continuously and in order, several batches in flight.
pub trait StreamWork: Work + Sized {
    /// Its plans.
    type Plan: StreamPlan;

    /// Returns true if a rule is enabled.
    ///
    /// # Errors
    /// When the rule is wrong.
    fn is_enabled(&self, rule: &ShippingRule) -> Result<bool, PlanError>;

    /// Builds the plan of a rule. Does not connect to the destination. Blocks.
    ///
    /// # Errors
    /// When the rule, a stage or the destination is wrong.
    fn build(&self, rule: RuleSpec<'_>) -> Result<Self::Plan, PlanError>;

    /// Returns `current` with the stages of a stored plan. `None` if `current` shall be used instead: its stages are the
    /// same, or the task failed in `failed_stage`, a stage of the stored plan.
    ///
    /// # Errors
    /// When the stages can't be opened any more.
    fn restore(
        &self,
        current: &Self::Plan,
        content: &str,
        failed_stage: Option<&str>,
    ) -> Result<Option<Self::Plan>, PlanError>;

    /// Delivers the tasks of a shard until they end, or until `stop`. In-flight tasks are still delivered after `stop`.
    fn deliver(
        &self,
        plan: &Self::Plan,
        tasks: ShardTasks<Self>,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send;
}

/// The plan of a stream.
pub trait StreamPlan: Plan + 'static {
    /// Returns the current failure, if there is one.
    fn problem(&self) -> Option<String>;

    /// Returns the digest of the stage whose last call failed.
    fn failing_stage(&self) -> Option<String>;

    /// Records a failure before the destination, which is retried after `wait`.
    fn record_failure(&self, message: String, wait: Duration);
}
