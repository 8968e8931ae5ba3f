//! Plans of tasks: a rule, its stages pinned by digest, and its destination.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use logship_logstore::ShippingRule;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::executor::{CallError, Executor, Function};
use crate::pipeline::{Pipeline, PipelineError};
use logship_config::destination::DestinationConfig;
use logship_config::rule::{Rule, RuleError, Store};
use logship_config::shipper_config;
use logship_registry::Registry;
use logship_sink::error::SinkError;
use logship_sink::object::{BucketLocation, ObjectSink};
use logship_sink::open;
use logship_sink::unknown_store::UnknownStore;

/// The stored plan of a task: everything that determines the bytes of its objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule, with stages pinned by digest.
    pub rule: Rule,
    /// Name and version of each stage.
    pub stages: Vec<String>,
}

/// A plan with its pipeline and destination opened.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) record: PlanRecord,
    pub(crate) pipeline: Pipeline,
    /// The program that runs the stages.
    pub(crate) executor: Executor,
    /// The store of the objects.
    pub(crate) sink: Box<dyn ObjectSink>,
    /// The record as JSON.
    pub(crate) content: String,
}

/// Where a rule's stages run, and where its objects go.
pub(crate) struct Destination {
    pub(crate) executor: Executor,
    pub(crate) sink: Box<dyn ObjectSink>,
}

impl Plan {
    /// True if a stage of the plan has this digest.
    pub(crate) fn has_stage(&self, digest: &str) -> bool {
        self.pipeline.stages().any(|stage| stage.digest() == digest)
    }
}

/// An error in making or reading a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The rule or one of its stages is wrong.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The destination is wrong.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A function that does not make the rule's objects.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stored plan can't be parsed: another version of logship wrote it.
    #[error("can't read the plan of the task: {0}")]
    Record(#[from] serde_json::Error),
    /// The stored plan was deleted together with its task.
    #[error("the plan of the task was deleted together with the task")]
    Gone,
    /// The rule has a target type that this version of logship does not ship to.
    #[error(
        "rules of type {0} are stored but not shipped: this version of logship ships to object stores (oss) only"
    )]
    Target(String),
}

impl From<RuleError> for PlanError {
    fn from(error: RuleError) -> Self {
        PipelineError::from(error).into()
    }
}

/// Builds plans and caches those in use.
#[derive(Debug)]
pub(crate) struct PlanCache {
    registry: Registry,
    destinations: BTreeMap<String, DestinationConfig>,
    spool: PathBuf,
    runtime: Handle,
    /// Plans of existing tasks, by stored record and current destination.
    ready: Mutex<HashMap<String, Arc<Plan>>>,
    /// Plans for the next tasks, by rule number.
    current: Mutex<HashMap<i64, Current>>,
}

/// The plan for the next task of a rule. Valid until the rule or a stage alias changes.
#[derive(Debug)]
struct Current {
    rule: ShippingRule,
    revision: i64,
    plan: Arc<Plan>,
}

/// Largest number of cached plans. The cache is cleared beyond it.
const MAX_CACHED_PLANS: usize = 4096;

impl PlanCache {
    pub(crate) fn new(
        registry: Registry,
        destinations: BTreeMap<String, DestinationConfig>,
        spool: PathBuf,
        runtime: Handle,
    ) -> Self {
        Self { registry, destinations, spool, runtime, ready: Mutex::default(), current: Mutex::default() }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The folder of staged objects.
    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// Parses and checks a rule as clients set it.
    pub(crate) fn rule(
        name: &str,
        target: &str,
        configuration: &serde_json::Value,
    ) -> Result<Rule, PlanError> {
        if target != shipper_config::OSS {
            return Err(PlanError::Target(target.into()));
        }
        let rule = shipper_config::to_rule(name, configuration)?;
        rule.check()?;
        Ok(rule)
    }

    /// Builds a plan for a rule. Opens its stages with their settings; does not connect to the destination.
    pub(crate) fn build(&self, project: &str, logstore: &str, rule: &Rule) -> Result<Plan, PlanError> {
        let pipeline = Pipeline::new(&self.registry, rule)?.for_logstore(project, logstore);
        let stages = pipeline.stages().map(|stage| format!("{} {}", stage.name(), stage.version())).collect();
        let mut pinned =
            Rule { stages: pipeline.pinned(), transform: pipeline.pinned_transforms(), ..rule.clone() };
        if let (Some(_), (_, Some(makes))) = (&pinned.stages.compressor, pipeline.format_and_compression()) {
            // A replacement compressor may produce another format than the one the rule names.
            makes.clone_into(&mut pinned.compression.name);
        }
        let record = PlanRecord { project: project.into(), logstore: logstore.into(), rule: pinned, stages };
        let content = serde_json::to_string(&record)?;
        let Destination { executor, sink } = self.destination(rule)?;
        Ok(Plan { record, pipeline, executor, sink, content })
    }

    /// Returns the plan for the next task of a rule. The cached plan is valid until the rule or the
    /// [revision](logship_logstore::StageAliases::revision) of the stage aliases changes.
    pub(crate) fn current(
        &self,
        project: &str,
        logstore: &str,
        rule: &ShippingRule,
        revision: i64,
    ) -> Result<Arc<Plan>, PlanError> {
        let mut is_swapped = false;
        if let Some(known) = lock(&self.current).get(&rule.number())
            && known.rule == *rule
        {
            if known.revision == revision {
                return Ok(Arc::clone(&known.plan));
            }
            is_swapped = true;
        }
        let begun = Instant::now();
        let parsed = Self::rule(&rule.name, &rule.target, &rule.configuration)?;
        let plan = Arc::new(self.build(project, logstore, &parsed)?);
        if is_swapped {
            record_swap_wait(begun);
        }
        let current = Current { rule: rule.clone(), revision, plan: Arc::clone(&plan) };
        lock(&self.current).insert(rule.number(), current);
        Ok(plan)
    }

    /// Evicts plans of existing tasks that no task uses now.
    pub(crate) fn evict_unused(&self) {
        lock(&self.ready).retain(|_, plan| Arc::strong_count(plan) > 1);
    }

    /// Removes the plans of deleted rules.
    pub(crate) fn retain_rules(&self, exists: impl Fn(i64) -> bool) {
        lock(&self.current).retain(|&rule, _| exists(rule));
    }

    /// Returns the plan that a task was created with. If the rule still ships to the same bucket, its current
    /// credentials are used, so that a wrong key can be corrected.
    pub(crate) fn restore(&self, content: &str, now: Option<&Rule>) -> Result<Arc<Plan>, PlanError> {
        let record: PlanRecord = serde_json::from_str(content)?;
        let current = match now {
            Some(now)
                if now.bucket == record.rule.bucket
                    && is_same_store(&now.destination, &record.rule.destination) =>
            {
                now
            }
            _ => &record.rule,
        };
        let key = format!("{content}{}", serde_json::to_string(&(&current.destination, &current.role))?);
        if let Some(plan) = lock(&self.ready).get(&key) {
            return Ok(Arc::clone(plan));
        }
        let pipeline =
            Pipeline::new(&self.registry, &record.rule)?.for_logstore(&record.project, &record.logstore);
        let Destination { executor, sink } = self.destination(current)?;
        let plan = Arc::new(Plan { record, pipeline, executor, sink, content: content.to_owned() });
        let mut ready = lock(&self.ready);
        if ready.len() >= MAX_CACHED_PLANS {
            ready.clear();
        }
        ready.insert(key, Arc::clone(&plan));
        Ok(plan)
    }

    /// Opens the destination of a rule.
    pub(crate) fn destination(&self, rule: &Rule) -> Result<Destination, PlanError> {
        let (config, is_inline) = match &rule.destination {
            Store::Own(config) => (&**config, true),
            Store::Named(name) => (self.named(name)?, false),
        };
        let DestinationConfig::Function(function) = config else {
            let sink = self.bucket(rule, config, is_inline)?;
            return Ok(Destination { executor: Executor::InProcess, sink });
        };
        if is_inline {
            return Err(invalid_destination(
                "a rule can't define a function inline: name one of the service's settings",
            ));
        }
        if !rule.transform.is_empty() {
            // Silently ignored transforms would leak fields that the user meant to drop or mask.
            let problem = "functions get untransformed logs: remove `transform`, or use a destination that is not a function";
            return Err(RuleError::field("transform", problem).into());
        }
        if !rule.partition_by.is_created() {
            let problem = format!(
                "a function makes one object per task and can't partition by {}: remove `partition_by`, or use a destination that is not a function",
                rule.partition_by
            );
            return Err(RuleError::field("partition_by", problem).into());
        }
        let store = match &function.store {
            Some(name) => self.bucket(rule, self.named(name)?, false)?,
            None if !rule.bucket.is_empty() => {
                let problem = "is not used, since the function chooses it: remove `bucket`, or set the function's `store` to the bucket's destination";
                return Err(RuleError::field("bucket", problem).into());
            }
            None if !rule.role.is_empty() => {
                return Err(RuleError::field("role", "is not used by functions: remove it").into());
            }
            None => {
                let url = function.endpoint(&rule.name).map_err(SinkError::Settings)?;
                Box::new(UnknownStore { function: url.to_string() })
            }
        };
        let has_store = function.store.is_some();
        let function = Function::new(function, &rule.name, has_store, self.runtime.clone())?;
        Ok(Destination { executor: Executor::Function(Box::new(function)), sink: store })
    }

    /// Looks up a destination in the service's settings.
    fn named(&self, name: &str) -> Result<&DestinationConfig, PlanError> {
        self.destinations.get(name).ok_or_else(|| {
            let known: Vec<_> = self.destinations.keys().map(String::as_str).collect();
            invalid_destination(format!(
                "the service's settings define no destination {name:?}; known destinations: {}",
                known.join(", ")
            ))
        })
    }

    /// Opens the rule's bucket at a destination.
    fn bucket(
        &self,
        rule: &Rule,
        config: &DestinationConfig,
        is_inline: bool,
    ) -> Result<Box<dyn ObjectSink>, PlanError> {
        if rule.bucket.is_empty() {
            return Err(RuleError::field("bucket", "is missing").into());
        }
        if is_inline {
            check_inline_destination(config).map_err(invalid_destination)?;
        }
        let location = BucketLocation {
            bucket: &rule.bucket,
            role: &rule.role,
            spool: &self.spool,
            runtime: self.runtime.clone(),
            must_exist: true,
        };
        open::object_sink(config, &location).map_err(|error| match error {
            SinkError::RuleField { field, problem } => RuleError::field(field, problem).into(),
            error => error.into(),
        })
    }
}

fn invalid_destination(problem: impl std::fmt::Display) -> PlanError {
    RuleError::field("destination", problem).into()
}

/// Checks a destination that a rule defines inline. It must have its own credentials, never those of the service.
fn check_inline_destination(config: &DestinationConfig) -> Result<(), String> {
    let (DestinationConfig::S3(remote) | DestinationConfig::Oss(remote)) = config else {
        return Err("a rule can't define a directory inline: name one of the service's settings".into());
    };
    let has_id = remote.access_key_id.as_ref().is_some_and(|id| !id.is_empty());
    let has_secret = remote.access_key_secret.as_ref().is_some_and(|secret| !secret.is_empty());
    if !has_id || !has_secret {
        return Err("an inline destination needs credentials: set access-key-id and access-key-secret".into());
    }
    if remote.ca.is_some() {
        return Err(
            "ca is a file of the service and not allowed inline: use a destination of the service's settings"
                .into(),
        );
    }
    match shipper_config::masked_secret(remote) {
        Some(secret) => Err(format!("{secret} is masked: set it again")),
        None => Ok(()),
    }
}

/// True if both are the same store, possibly with other credentials.
fn is_same_store(one: &Store, other: &Store) -> bool {
    use DestinationConfig::{Oss, S3};
    match (one, other) {
        (Store::Named(one), Store::Named(other)) => one == other,
        (Store::Own(one), Store::Own(other)) => {
            matches!((&**one, &**other), (S3(one), S3(other)) | (Oss(one), Oss(other)) if one.endpoint == other.endpoint)
        }
        _ => false,
    }
}

/// Records how long a task waited for a stage swap that began at `begun`.
pub(crate) fn record_swap_wait(begun: Instant) {
    metrics::histogram!("logship_swap_wait_seconds").record(begun.elapsed().as_secs_f64());
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
