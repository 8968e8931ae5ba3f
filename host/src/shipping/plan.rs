//! What tasks are made by: a rule, its stages pinned by their digests, and where its objects go.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use logship_logstore::ShippingRule;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::bucket::{Bucket, Flavour, Remote};
use crate::destination::{Destination, DestinationConfig, DestinationError};
use crate::directory::Directory;
use crate::function::Function;
use crate::pipeline::{Pipeline, PipelineError};
use crate::registry::Registry;
use crate::rule::{Rule, RuleError, Store};
use crate::target;

/// The plan of a task, as it is stored: all that decides its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule, its stages by their digests.
    pub rule: Rule,
    /// What the stages are called: name and version of each.
    pub stages: Vec<String>,
}

/// A plan, ready to be used.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) record: PlanRecord,
    pub(crate) pipeline: Pipeline,
    pub(crate) destination: Destination,
    /// The record as JSON.
    pub(crate) content: String,
}

impl Plan {
    /// Whether the component of a digest takes part.
    pub(crate) fn has_stage(&self, digest: &str) -> bool {
        self.pipeline.stages().any(|stage| stage.digest() == digest)
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The rule, or a stage of it.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Where its objects go.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// It can't be read: another version of logship wrote it.
    #[error("the plan of the task can't be read: {0}")]
    Record(#[from] serde_json::Error),
    /// It is no more: its task was forgotten.
    #[error("the plan of the task is no more")]
    Gone,
    /// The rule ships to what this version of logship does not.
    #[error("rules of type {0} are kept, but not shipped: this logship ships to object stores (oss) only")]
    Target(String),
}

impl From<RuleError> for PlanError {
    fn from(error: RuleError) -> Self {
        PipelineError::from(error).into()
    }
}

/// Makes plans, and keeps those in use.
#[derive(Debug)]
pub(crate) struct Plans {
    registry: Registry,
    destinations: BTreeMap<String, DestinationConfig>,
    spool: PathBuf,
    runtime: Handle,
    /// By what is stored of them, and where they go now.
    ready: Mutex<HashMap<String, Arc<Plan>>>,
    /// Those of the rules as they are, by their numbers.
    current: Mutex<HashMap<i64, Current>>,
}

/// The plan for the next task of a rule, as long as the rule is the same and so is what names of stages stand for.
#[derive(Debug)]
struct Current {
    rule: ShippingRule,
    revision: i64,
    plan: Arc<Plan>,
}

/// Plans in use at one time; beyond them all are made anew.
const KEPT: usize = 4096;

impl Plans {
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

    /// The folder of objects on their way.
    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// The rule that clients set, checked in itself.
    pub(crate) fn rule(
        name: &str,
        target: &str,
        configuration: &serde_json::Value,
    ) -> Result<Rule, PlanError> {
        if target != target::OSS {
            return Err(PlanError::Target(target.into()));
        }
        let rule = target::rule(name, configuration)?;
        rule.check()?;
        Ok(rule)
    }

    /// A plan for a rule: its stages are found and take their settings; its destination is only looked up.
    pub(crate) fn make(&self, project: &str, logstore: &str, rule: &Rule) -> Result<Plan, PlanError> {
        let pipeline = Pipeline::new(&self.registry, rule)?.of(project, logstore);
        let stages = pipeline.stages().map(|stage| format!("{} {}", stage.name(), stage.version())).collect();
        let mut pinned =
            Rule { stages: pipeline.pinned(), transform: pipeline.pinned_transforms(), ..rule.clone() };
        if let (Some(_), (_, Some(makes))) = (&pinned.stages.compressor, pipeline.makes()) {
            // A compressor that took the place of another may make something else than the rule asks for by name.
            makes.clone_into(&mut pinned.compression.name);
        }
        let record = PlanRecord { project: project.into(), logstore: logstore.into(), rule: pinned, stages };
        let content = serde_json::to_string(&record)?;
        Ok(Plan { destination: self.destination(rule)?, record, pipeline, content })
    }

    /// The plan for the next task of a rule. Names of stages are looked up once, as long as the rule stays as it is, and
    /// the [revision](logship_logstore::StageNames::revision) of the names does.
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
        let plan = Arc::new(self.make(project, logstore, &parsed)?);
        if is_swapped {
            waited_for_swap(begun);
        }
        let current = Current { rule: rule.clone(), revision, plan: Arc::clone(&plan) };
        lock(&self.current).insert(rule.number(), current);
        Ok(plan)
    }

    /// Lets go of plans that no task is being made by, but for those of the next ones.
    pub(crate) fn let_go(&self) {
        lock(&self.ready).retain(|_, plan| Arc::strong_count(plan) > 1);
    }

    /// Forgets the plans of rules that are no more.
    pub(crate) fn forget(&self, is_there: impl Fn(i64) -> bool) {
        lock(&self.current).retain(|&rule, _| is_there(rule));
    }

    /// The plan that a task was made with. As long as the rule goes to the same bucket, that is reached as the rule says
    /// now: a key that was wrong can be put right.
    pub(crate) fn stored(&self, content: &str, now: Option<&Rule>) -> Result<Arc<Plan>, PlanError> {
        let record: PlanRecord = serde_json::from_str(content)?;
        let reached = match now {
            Some(now)
                if now.bucket == record.rule.bucket && alike(&now.destination, &record.rule.destination) =>
            {
                now
            }
            _ => &record.rule,
        };
        let key = format!("{content}{}", serde_json::to_string(&(&reached.destination, &reached.role))?);
        if let Some(plan) = lock(&self.ready).get(&key) {
            return Ok(Arc::clone(plan));
        }
        let pipeline = Pipeline::new(&self.registry, &record.rule)?.of(&record.project, &record.logstore);
        let destination = self.destination(reached)?;
        let plan = Arc::new(Plan { record, pipeline, destination, content: content.to_owned() });
        let mut ready = lock(&self.ready);
        if ready.len() >= KEPT {
            ready.clear();
        }
        ready.insert(key, Arc::clone(&plan));
        Ok(plan)
    }

    /// Where the objects of a rule go.
    pub(crate) fn destination(&self, rule: &Rule) -> Result<Destination, PlanError> {
        let (config, is_own) = match &rule.destination {
            Store::Own(config) => (&**config, true),
            Store::Named(name) => (self.named(name)?, false),
        };
        let DestinationConfig::Function(function) = config else {
            return self.place(rule, config, is_own);
        };
        if is_own {
            return Err(wrong("a function can only be one that the service's settings name"));
        }
        if !rule.transform.is_empty() {
            // Nobody must believe that something is hidden which is not.
            let problem =
                "a function gets the logs as they are: leave it out, or have logship make the objects";
            return Err(RuleError::field("transform", problem).into());
        }
        if !rule.partition_by.is_created() {
            let problem = format!(
                "a function makes one object of each task, and can't split it by {}: leave it out, or have logship make the objects",
                rule.partition_by
            );
            return Err(RuleError::field("partition_by", problem).into());
        }
        let store = match &function.store {
            Some(name) => Some(self.place(rule, self.named(name)?, false)?),
            None if !rule.bucket.is_empty() => {
                let problem = "is for the function to know: leave it out, or name the bucket's destination as the function's `store`";
                return Err(RuleError::field("bucket", problem).into());
            }
            None if !rule.role.is_empty() => {
                return Err(RuleError::field("role", "is of no use to a function: leave it out").into());
            }
            None => None,
        };
        let function = Function::new(function, &rule.name, store, self.runtime.clone())?;
        Ok(Destination::Function(Box::new(function)))
    }

    /// A destination of the service's settings.
    fn named(&self, name: &str) -> Result<&DestinationConfig, PlanError> {
        self.destinations.get(name).ok_or_else(|| {
            let known: Vec<_> = self.destinations.keys().map(String::as_str).collect();
            wrong(format!(
                "the service's settings name no destination {name:?}; there is {}",
                known.join(", ")
            ))
        })
    }

    /// The rule's bucket at a destination.
    fn place(&self, rule: &Rule, config: &DestinationConfig, is_own: bool) -> Result<Destination, PlanError> {
        if rule.bucket.is_empty() {
            return Err(RuleError::field("bucket", "is missing").into());
        }
        let bucket = |flavour, remote: &Remote| {
            if is_own {
                check_own(remote).map_err(wrong)?;
            }
            if !is_bucket(&rule.bucket, flavour) {
                let problem = format!(
                    "{:?} is no name of a bucket: 3-63 lowercase letters, digits, `-` (S3: and `.`)",
                    rule.bucket
                );
                return Err(RuleError::field("bucket", problem).into());
            }
            if flavour == Flavour::Oss && remote.endpoint.is_empty() {
                return Err(wrong("endpoint is missing"));
            }
            let (spool, runtime) = (&self.spool, self.runtime.clone());
            Ok(Destination::Bucket(Bucket::open(flavour, remote, &rule.bucket, &rule.role, spool, runtime)?))
        };
        match config {
            DestinationConfig::Directory { .. } if is_own => {
                Err(wrong("a directory can only be one that the service's settings name"))
            }
            DestinationConfig::Directory { path } => {
                Ok(Destination::Directory(Directory::existing(path.join(&rule.bucket))))
            }
            DestinationConfig::S3(remote) => bucket(Flavour::S3, remote),
            DestinationConfig::Oss(remote) => bucket(Flavour::Oss, remote),
            DestinationConfig::Function(_) => Err(wrong("a function is no place for objects")),
        }
    }
}

fn wrong(problem: impl std::fmt::Display) -> PlanError {
    RuleError::field("destination", problem).into()
}

/// What a rule may bring of its own: it is reached by the service, but not as the service.
fn check_own(remote: &Remote) -> Result<(), String> {
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if !is_given(&remote.access_key_id) || !is_given(&remote.access_key_secret) {
        return Err(
            "one of the rule's own needs a key of its own: access-key-id and access-key-secret".into()
        );
    }
    if remote.ca.is_some() {
        return Err("ca is a file of the service: only a destination of its settings can have one".into());
    }
    match target::hidden(remote) {
        Some(secret) => Err(format!("{secret} is hidden: give it again")),
        None => Ok(()),
    }
}

/// The name becomes a part of a host's name or of a path, and must not be more.
fn is_bucket(name: &str, flavour: Flavour) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let within = |byte: u8| plain(byte) || byte == b'-' || (byte == b'.' && flavour == Flavour::S3);
    (3..=63).contains(&name.len())
        && name.bytes().all(within)
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

/// Whether they are the same store, reached in other ways maybe.
fn alike(one: &Store, other: &Store) -> bool {
    use DestinationConfig::{Oss, S3};
    match (one, other) {
        (Store::Named(one), Store::Named(other)) => one == other,
        (Store::Own(one), Store::Own(other)) => {
            matches!((&**one, &**other), (S3(one), S3(other)) | (Oss(one), Oss(other)) if one.endpoint == other.endpoint)
        }
        _ => false,
    }
}

/// A task waited since `begun` because a stage was swapped.
pub(crate) fn waited_for_swap(begun: Instant) {
    metrics::histogram!("logship_swap_wait_seconds").record(begun.elapsed().as_secs_f64());
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
