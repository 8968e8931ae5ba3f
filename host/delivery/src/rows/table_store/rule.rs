//! Rules that write rows to Table Store: how they are checked and planned.

use std::sync::Arc;

use logship_config::data_source::Connection;
use logship_config::rule::RuleError;
use logship_config::stage_name::ComponentDigest;
use logship_config::table_store::TableStoreConfig;
use logship_config::table_store_rule::{OTS, TableStoreRule};
use logship_logstore::ShippingRule;
use logship_registry::Registry;
use logship_sink::table_store::TableStore;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::dead_letter::DeadLetters;
use crate::engine::batch::BatchPolicy;
use crate::engine::error::PlanError;
use crate::engine::plan::{PlanCache, PlanRecord, PlanSummary};
use crate::engine::preview::{Candidate, OutputFactory, PreviewError};
use crate::engine::work::{BatchPlan, BatchWork, RuleLimits, RuleSpec, Work};
use crate::rows::sources::check_rule_connection;
use crate::rows::table_store::encoding::{self, ShardName};
use crate::rows::table_store::plan::TablePlan;
use crate::rows::table_store::table;
use crate::rows::{RowEncoding, Sources};

/// The rule in the stored plan of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlannedRule {
    /// The rule, with stages pinned by digest.
    pub(super) ots: TableStoreRule,
}

/// Rules that write rows to Table Store.
#[derive(Debug)]
pub struct TableStoreRules {
    pub(super) registry: Registry,
    sources: Arc<dyn Sources>,
    /// True if rules may define connections.
    allow_own: bool,
    dead_letters: Arc<DeadLetters>,
    runtime: Handle,
}

impl TableStoreRules {
    /// Creates the rules. `sources` are those that rules can name. Rules may define connections if `allow_own`.
    pub fn new(
        registry: Registry,
        sources: Arc<dyn Sources>,
        allow_own: bool,
        dead_letters: DeadLetters,
        runtime: Handle,
    ) -> Self {
        Self { registry, sources, allow_own, dead_letters: Arc::new(dead_letters), runtime }
    }

    /// Returns the instance of a rule of a project.
    pub(super) fn connection(
        &self,
        project: &str,
        rule: &TableStoreRule,
    ) -> Result<TableStoreConfig, PlanError> {
        if let Some(own) = &rule.connection {
            check_rule_connection(&Connection::TableStore(own.clone()), self.allow_own)?;
            return Ok(own.clone());
        }
        let source = self.sources.get(project, &rule.source);
        match source.map_err(|error| RuleError::field("source", error))?.connection {
            Connection::TableStore(config) => Ok(config),
            other => {
                let problem = format!("{:?} is of type {}: name one of type ots", rule.source, other.kind());
                Err(RuleError::field("source", problem).into())
            }
        }
    }

    pub(super) fn sink(&self, project: &str, rule: &TableStoreRule) -> Result<TableStore, PlanError> {
        let config = self.connection(project, rule)?;
        Ok(TableStore::open(&config.instance, &config)?)
    }

    /// Builds a plan for a rule. Opens its stages with their settings; does not connect.
    fn build_plan(&self, spec: RuleSpec<'_>, rule: TableStoreRule) -> Result<TablePlan, PlanError> {
        let sink = self.sink(spec.project, &rule)?;
        let shard = ShardName { project: spec.project, logstore: spec.logstore, shard: 0 };
        let encoding = encoding::open(&self.registry, (rule.encoder(), &rule.transform), &rule, &shard)?;
        let (stage, transform) = encoding.pinned();
        let planned = PlannedRule { ots: TableStoreRule { stage: Some(stage), transform, ..rule } };
        let record = PlanRecord::new((spec.project, spec.logstore), planned, encoding.stages());
        let content = serde_json::to_string(&record)?;
        Ok(self.plan(record, content, encoding, sink))
    }

    fn plan(
        &self,
        record: PlanRecord<PlannedRule>,
        content: String,
        encoding: RowEncoding,
        sink: TableStore,
    ) -> TablePlan {
        let PlanRecord { project, logstore, rule, .. } = record;
        let (dead_letters, runtime) = (Arc::clone(&self.dead_letters), self.runtime.clone());
        let registry = self.registry.clone();
        TablePlan::new(
            (project, logstore),
            rule.ots,
            content,
            (registry, encoding),
            sink,
            dead_letters,
            runtime,
        )
    }

    /// Returns the plan that a task was created with. If the rule still writes to the same instance, its current
    /// credentials are used, so that a wrong key can be corrected.
    fn restore_plan(
        &self,
        content: &str,
        now: Option<&TableStoreRule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let record = PlanRecord::<PlannedRule>::parse(content)?;
        let planned = &record.rule.ots;
        let is_same = |now: &&TableStoreRule| match (&now.connection, &planned.connection) {
            (Some(now), Some(then)) => now.is_same_instance(then),
            (None, None) => now.source == planned.source,
            _ => false,
        };
        let current = now.filter(is_same).unwrap_or(planned);
        let config = self.connection(&record.project, current)?;
        let key = format!("{content}{}", serde_json::to_string(&config)?);
        cache.restore(key, || {
            let sink = TableStore::open(&config.instance, &config)?;
            let shard = ShardName { project: &record.project, logstore: &record.logstore, shard: 0 };
            let stages = (planned.encoder(), &planned.transform[..]);
            let encoding = encoding::open(&self.registry, stages, planned, &shard)?;
            Ok(Arc::new(self.plan(record.clone(), content.to_owned(), encoding, sink)))
        })
    }
}

impl Work for TableStoreRules {
    fn target(&self) -> &'static str {
        OTS
    }

    fn check(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        let parsed = TableStoreRule::of(rule.name, rule.configuration)?;
        self.build_plan(rule, parsed).map(drop)
    }

    fn check_stages(&self, rule: RuleSpec<'_>, registry: &Registry) -> Result<(), PlanError> {
        let parsed = TableStoreRule::of(rule.name, rule.configuration)?;
        let shard = ShardName { project: rule.project, logstore: rule.logstore, shard: 0 };
        let stages = (parsed.encoder(), &parsed.transform[..]);
        Ok(encoding::open(registry, stages, &parsed, &shard).map(drop)?)
    }

    fn probe(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        let parsed = TableStoreRule::of(rule.name, rule.configuration)?;
        let sink = self.sink(rule.project, &parsed)?;
        Ok(self.runtime.block_on(table::probe(&sink, &parsed))?)
    }

    fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError> {
        PlanRecord::summarize(content, |PlannedRule { ots }| {
            let configuration = ots.configuration();
            (ots.name, configuration)
        })
    }

    fn rule_components(&self, rule: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError> {
        Ok(TableStoreRule::of(rule.name, rule.configuration)?.pinned_components().collect())
    }

    fn plan_components(&self, content: &str) -> Result<Vec<ComponentDigest>, PlanError> {
        let record = PlanRecord::<PlannedRule>::parse(content)?;
        Ok(record.rule.ots.pinned_components().collect())
    }

    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        self.open_preview(rule, candidate)
    }
}

impl BatchWork for TableStoreRules {
    fn limits(&self, rule: &ShippingRule) -> Result<RuleLimits, PlanError> {
        let rule = TableStoreRule::of(&rule.name, &rule.configuration)?;
        let policy = BatchPolicy { size: rule.size(), seconds: rule.time_seconds, max_log_bytes: u64::MAX };
        Ok(RuleLimits { enabled: rule.enabled, policy, concurrency: None })
    }

    fn build(&self, rule: RuleSpec<'_>) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let parsed = TableStoreRule::of(rule.name, rule.configuration)?;
        Ok(Arc::new(self.build_plan(rule, parsed)?))
    }

    fn restore(
        &self,
        content: &str,
        rule: Option<&ShippingRule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let now = rule.and_then(|rule| TableStoreRule::of(&rule.name, &rule.configuration).ok());
        self.restore_plan(content, now.as_ref(), cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_record_keeps_its_stored_form() {
        let ots = TableStoreRule {
            name: "r-1".into(),
            table: "logs".into(),
            source: "s".into(),
            ..TableStoreRule::default()
        };
        let stored = format!(
            r#"{{"project":"p","logstore":"l","ots":{},"stages":["rows-tablestore 1.0.0"]}}"#,
            serde_json::to_string(&ots).unwrap()
        );
        let record = PlanRecord::<PlannedRule>::parse(&stored).unwrap();
        assert_eq!(record.rule.ots, ots);
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
        let objects = stored.replace(r#""ots":"#, r#""rule":"#);
        let error = PlanRecord::<PlannedRule>::parse(&objects).unwrap_err().to_string();
        assert!(error.contains("missing field `ots`"), "{error}");
    }
}
