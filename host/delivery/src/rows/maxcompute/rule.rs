//! Rules that write rows to MaxCompute: how they are checked and planned.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logship_config::data_source::Connection;
use logship_config::maxcompute::{MaxComputeConfig, Protocol};
use logship_config::maxcompute_rule::{MaxComputeRule, ODPS};
use logship_config::rule::RuleError;
use logship_config::stage_name::ComponentDigest;
use logship_logstore::ShippingRule;
use logship_registry::Registry;
use logship_runtime::stage::{RowColumn, Table};
use logship_sink::maxcompute::{self, MaxCompute};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::error::failure;
use super::plan::{PlannedRule, RowPlan};
use crate::dead_letter::DeadLetters;
use crate::engine::batch::BatchPolicy;
use crate::engine::error::{Failure, PlanError};
use crate::engine::plan::{PlanCache, PlanRecord, PlanSummary};
use crate::engine::preview::{Candidate, OutputFactory, PreviewError};
use crate::engine::work::{BatchPlan, BatchWork, RuleLimits, RuleSpec, Work};
use crate::rows::Sources;
use crate::rows::encode::RowEncoding;
use crate::rows::encode_maxcompute;
use crate::rows::sources::check_rule_connection;

/// The timeout of a rule's check, with retries.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Rules that write rows to MaxCompute. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MaxComputeRows {
    pub(super) registry: Registry,
    sources: Arc<dyn Sources>,
    /// The dirty rows.
    pub(super) dead_letters: Arc<DeadLetters>,
    /// True if rules may define connections.
    allow_own: bool,
    pub(super) runtime: Handle,
}

impl MaxComputeRows {
    /// Creates the rules. `sources` are the data sources that rules can name. `allow_own` says whether rules may define
    /// connections.
    pub fn new(
        registry: Registry,
        sources: Arc<dyn Sources>,
        dead_letters: Arc<DeadLetters>,
        allow_own: bool,
        runtime: Handle,
    ) -> Self {
        Self { registry, sources, dead_letters, allow_own, runtime }
    }

    /// Returns the connection of a rule.
    fn connection(&self, project: &str, rule: &MaxComputeRule) -> Result<MaxComputeConfig, PlanError> {
        if let Some(connection) = &rule.connection {
            if let Some(known) = self.known(project, connection) {
                return Ok(known);
            }
            check_rule_connection(&Connection::MaxCompute(connection.clone()), self.allow_own)?;
            return Ok(connection.clone());
        }
        let source =
            self.sources.get(project, &rule.source).map_err(|error| RuleError::field("source", error))?;
        match source.connection {
            Connection::MaxCompute(connection) => Ok(connection),
            _ => {
                let problem = format!("data source {} is not one of MaxCompute (odps)", rule.source);
                Err(RuleError::field("source", problem).into())
            }
        }
    }

    /// Returns the data source of the same MaxCompute project for a connection without a key: Log Service's own rules
    /// have none.
    fn known(&self, project: &str, connection: &MaxComputeConfig) -> Option<MaxComputeConfig> {
        if !connection.access_key_id.is_empty() {
            return None;
        }
        self.sources.list(project).into_iter().find_map(|source| match source.connection {
            Connection::MaxCompute(known) if known.is_same_project(connection) => Some(known),
            _ => None,
        })
    }

    /// Returns true if a rule has no key yet. Clients of Log Service create such rules. They ship as soon as a data source
    /// has the key of their project.
    fn waits_for_key(&self, project: &str, rule: &MaxComputeRule) -> bool {
        let is_keyless = |own: &MaxComputeConfig| own.access_key_id.is_empty();
        let own = rule.connection.as_ref().filter(|own| self.allow_own && is_keyless(own));
        own.is_some_and(|own| self.known(project, own).is_none())
    }

    /// Opens the project of a rule. Does not connect.
    pub(super) fn open(&self, project: &str, rule: &MaxComputeRule) -> Result<MaxCompute, PlanError> {
        Ok(maxcompute::open(&self.connection(project, rule)?)?)
    }

    /// Opens the stages of a rule, for a table that stands for its own, which only the server knows.
    fn stages(
        registry: &Registry,
        rule: &MaxComputeRule,
        settings: &Map<String, Value>,
    ) -> Result<RowEncoding, PlanError> {
        let mapped = rule.columns.columns.iter().map(|mapped| mapped.column.clone());
        let mut names: Vec<String> = mapped.collect();
        if names.is_empty() {
            names = (0..rule.fields.len().max(1)).map(|number| format!("c{number}")).collect();
        }
        let texts: Vec<_> = names.iter().map(String::as_str).collect();
        let mapping = rule.mapping(&texts).map_err(|error| RuleError::field("columns", error))?;
        let column =
            |name: &String| RowColumn { name: name.clone(), data_type: "string".into(), nullable: true };
        let table = Table { key: vec![], columns: names.iter().map(column).collect() };
        let stages = (rule.encoder(), rule.transform.as_slice());
        Ok(RowEncoding::new(registry, stages, settings.clone(), &mapping, table)?)
    }

    pub(super) fn plan(&self, spec: RuleSpec<'_>) -> Result<RowPlan, PlanError> {
        let rule = MaxComputeRule::of(spec.name, spec.configuration)?;
        let connection = self.connection(spec.project, &rule)?;
        maxcompute::open(&connection)?;
        let protocol = connection.protocol.unwrap_or_default();
        let settings = settings(&rule, protocol);
        let stages = Self::stages(&self.registry, &rule, &settings)?;
        let (encoder, transform) = stages.pinned();
        let odps = MaxComputeRule { stage: Some(encoder), transform, ..rule.clone() };
        let planned = PlannedRule { odps, settings, protocol };
        let record = PlanRecord::new((spec.project, spec.logstore), planned, stages.stages());
        let content = serde_json::to_string(&record)?;
        let PlanRecord { project, rule: planned, .. } = record;
        Ok(RowPlan { work: Arc::new(self.clone()), project, planned, current: rule, stages, content })
    }
}

/// The settings of the row encoder, without its columns. Values that don't convert are treated as by Log Service's shipper.
fn settings(rule: &MaxComputeRule, protocol: Protocol) -> Map<String, Value> {
    let mut settings = encode_maxcompute::settings(protocol);
    if rule.stage.is_none() {
        // Zones with daylight saving time have the offset of now, which the plan keeps.
        let offset = encode_maxcompute::utc_offset(rule.time_zone, SystemTime::now().into());
        settings.insert("utc-offset".into(), offset.into());
        settings.insert("empty-as-null".into(), true.into());
        settings.insert("invalid-dates-as-null".into(), true.into());
    }
    settings
}

impl Work for MaxComputeRows {
    fn target(&self) -> &'static str {
        ODPS
    }

    fn check(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        let parsed = MaxComputeRule::of(rule.name, rule.configuration)?;
        if self.waits_for_key(rule.project, &parsed) {
            return self.check_stages(rule, &self.registry);
        }
        self.plan(rule).map(drop)
    }

    fn check_stages(&self, rule: RuleSpec<'_>, registry: &Registry) -> Result<(), PlanError> {
        let rule = MaxComputeRule::of(rule.name, rule.configuration)?;
        Self::stages(registry, &rule, &settings(&rule, Protocol::default())).map(drop)
    }

    fn probe(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        let parsed = MaxComputeRule::of(rule.name, rule.configuration)?;
        let sink = self.open(rule.project, &parsed)?;
        let read = async { tokio::time::timeout(PROBE_TIMEOUT, sink.table(&parsed.table)).await };
        let schema = match self.runtime.block_on(read) {
            Ok(read) => read.map_err(failure)?,
            Err(_) => return Err(Failure::new("the MaxCompute service is unavailable").into()),
        };
        let names: Vec<_> = schema.columns.iter().map(|column| column.name.as_str()).collect();
        parsed.mapping(&names).map_err(|error| RuleError::field("columns", error))?;
        super::route::Route::new(&parsed, &schema).map_err(Failure::new)?;
        Ok(())
    }

    fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError> {
        PlanRecord::summarize(content, |PlannedRule { odps, .. }| {
            let configuration = odps.configuration();
            (odps.name, configuration)
        })
    }

    fn rule_components(&self, rule: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError> {
        Ok(MaxComputeRule::of(rule.name, rule.configuration)?.pinned_components().collect())
    }

    fn plan_components(&self, content: &str) -> Result<Vec<ComponentDigest>, PlanError> {
        let record = PlanRecord::<PlannedRule>::parse(content)?;
        Ok(record.rule.odps.pinned_components().collect())
    }

    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        self.open_preview(rule, candidate)
    }
}

impl BatchWork for MaxComputeRows {
    fn limits(&self, rule: &ShippingRule) -> Result<RuleLimits, PlanError> {
        let rule = MaxComputeRule::of(&rule.name, &rule.configuration)?;
        let policy = BatchPolicy { size: rule.size(), seconds: rule.time_seconds, max_log_bytes: u64::MAX };
        Ok(RuleLimits { enabled: rule.enabled, policy, concurrency: None })
    }

    fn build(&self, rule: RuleSpec<'_>) -> Result<Arc<dyn BatchPlan>, PlanError> {
        Ok(Arc::new(self.plan(rule)?))
    }

    fn restore(
        &self,
        content: &str,
        rule: Option<&ShippingRule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let PlanRecord { project, rule: planned, .. } = PlanRecord::<PlannedRule>::parse(content)?;
        let now = rule.and_then(|rule| MaxComputeRule::of(&rule.name, &rule.configuration).ok());
        let current = match now {
            Some(now) if is_same_place(&now, &planned.odps) => now,
            _ => planned.odps.clone(),
        };
        let key = format!("{content}{}", serde_json::to_string(&current.connection)?);
        cache.restore(key, || {
            let stages = Self::stages(&self.registry, &planned.odps, &planned.settings)?;
            let (work, content) = (Arc::new(self.clone()), content.to_owned());
            Ok(Arc::new(RowPlan { work, project, planned, current, stages, content }))
        })
    }
}

/// True if two versions of a rule write to the same table, perhaps with another key.
fn is_same_place(one: &MaxComputeRule, other: &MaxComputeRule) -> bool {
    one.table == other.table
        && match (&one.connection, &other.connection) {
            (Some(one), Some(other)) => one.is_same_project(other),
            (None, None) => one.source == other.source,
            _ => false,
        }
}
