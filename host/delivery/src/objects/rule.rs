//! Rules that write objects: how they are checked and planned.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use logship_config::destination::DestinationConfig;
use logship_config::function::MAX_RAW_BYTES;
use logship_config::rule::{Rule, Store};
use logship_config::scope::Scope;
use logship_config::shipper_config;
use logship_config::shipping::Shipping;
use logship_config::stage_name::ComponentDigest;
use logship_logstore::ShippingRule;
use logship_registry::Registry;
use tokio::runtime::Handle;

use crate::engine::batch::{BatchPolicy, ConcurrencyLimit};
use crate::engine::error::PlanError;
use crate::engine::plan::{PlanCache, PlanRecord, PlanSummary};
use crate::engine::preview::{Candidate, OutputFactory, PreviewError};
use crate::engine::work::{BatchPlan, BatchWork, RuleLimits, RuleSpec, Work};
use crate::executor::{self, Executor, Fleet};
use crate::objects::destination::Destination;
use crate::objects::plan::PlannedRule;
use crate::pipeline::Pipeline;

/// Rules that write objects to directories and buckets, directly or through functions.
#[derive(Debug)]
pub struct Objects {
    pub(super) registry: Registry,
    pub(super) destinations: BTreeMap<String, DestinationConfig>,
    /// The rules that may use a destination, by its name.
    pub(super) scopes: BTreeMap<String, Scope>,
    /// True if rules may define destinations.
    pub(super) allow_own: bool,
    /// The folder of staged objects.
    pub(super) spool: PathBuf,
    pub(super) runtime: Handle,
    /// The shared state of functions, by the name of their destination.
    pub(super) fleets: Mutex<BTreeMap<String, Arc<Fleet>>>,
}

impl Objects {
    /// Creates the rules. `data` is the data folder; `destinations` are those that rules can name.
    ///
    /// # Errors
    /// When the folder of staged objects can't be created.
    pub fn new(
        registry: Registry,
        destinations: BTreeMap<String, DestinationConfig>,
        settings: &Shipping,
        data: &Path,
        runtime: Handle,
    ) -> Result<Self, io::Error> {
        let spool = settings.spool.clone().unwrap_or_else(|| data.join("spool"));
        std::fs::create_dir_all(&spool)?;
        let (scopes, fleets) = (BTreeMap::new(), Mutex::default());
        Ok(Self { registry, destinations, scopes, allow_own: true, spool, runtime, fleets })
    }

    /// Limits the destinations that rules may use, by name, and whether they may define their own.
    #[must_use]
    pub fn with_scopes(self, scopes: BTreeMap<String, Scope>, allow_own: bool) -> Self {
        Self { scopes, allow_own, ..self }
    }

    /// Parses and checks a rule as clients set it.
    pub(super) fn parse(name: &str, configuration: &serde_json::Value) -> Result<Rule, PlanError> {
        let rule = shipper_config::to_rule(name, configuration)?;
        rule.check()?;
        Ok(rule)
    }
}

impl Work for Objects {
    fn target(&self) -> &'static str {
        shipper_config::OSS
    }

    fn check(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        let parsed = shipper_config::to_rule(rule.name, rule.configuration)?;
        for warning in parsed.column_warnings() {
            tracing::warn!(project = rule.project, logstore = rule.logstore, rule = rule.name, "{warning}");
        }
        self.build_plan(rule.project, rule.logstore, &parsed).map(drop)
    }

    fn check_stages(&self, rule: RuleSpec<'_>, registry: &Registry) -> Result<(), PlanError> {
        let rule = Self::parse(rule.name, rule.configuration)?;
        Ok(Pipeline::new(registry, &rule).map(drop)?)
    }

    fn probe(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        let spec_project = rule.project;
        let rule = shipper_config::to_rule(rule.name, rule.configuration)?;
        let Destination { executor, sink } = self.destination(spec_project, &rule)?;
        if let Executor::Function(function) = &executor {
            let spec = executor::spec(&rule, &Pipeline::new(&self.registry, &rule)?);
            function.probe(&spec)?;
            if !function.has_store() {
                return Ok(());
            }
        }
        Ok(self.runtime.block_on(sink.probe(&rule.prefix))?)
    }

    fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError> {
        PlanRecord::summarize(content, |PlannedRule { rule }| {
            let configuration = shipper_config::from_rule(&rule);
            (rule.name, configuration)
        })
    }

    fn rule_components(&self, rule: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError> {
        Ok(shipper_config::to_rule(rule.name, rule.configuration)?.pinned_components().collect())
    }

    fn plan_components(&self, content: &str) -> Result<Vec<ComponentDigest>, PlanError> {
        let record = PlanRecord::<PlannedRule>::parse(content)?;
        Ok(record.rule.rule.pinned_components().collect())
    }

    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        self.open_preview(rule, candidate)
    }
}

impl BatchWork for Objects {
    fn limits(&self, rule: &ShippingRule) -> Result<RuleLimits, PlanError> {
        let rule = Self::parse(&rule.name, &rule.configuration)?;
        let is_destination = |limit: &ConcurrencyLimit| matches!(&rule.destination, Store::Named(name) if *name == limit.destination);
        let concurrency = self.concurrency_limits().into_iter().find(is_destination);
        let max_log_bytes = if concurrency.is_some() { MAX_RAW_BYTES as u64 } else { u64::MAX };
        let policy = BatchPolicy { size: rule.size(), seconds: rule.time_seconds, max_log_bytes };
        Ok(RuleLimits { enabled: rule.enabled, policy, concurrency })
    }

    fn concurrency_limits(&self) -> Vec<ConcurrencyLimit> {
        let limit = |(name, config): (&String, &DestinationConfig)| match config {
            DestinationConfig::Function(function) => {
                Some(ConcurrencyLimit { destination: name.clone(), calls: function.calls })
            }
            _ => None,
        };
        self.destinations.iter().filter_map(limit).collect()
    }

    fn build(&self, rule: RuleSpec<'_>) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let parsed = Self::parse(rule.name, rule.configuration)?;
        Ok(Arc::new(self.build_plan(rule.project, rule.logstore, &parsed)?))
    }

    fn restore(
        &self,
        content: &str,
        rule: Option<&ShippingRule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let now = rule.and_then(|rule| Self::parse(&rule.name, &rule.configuration).ok());
        self.restore_plan(content, now.as_ref(), cache)
    }
}
