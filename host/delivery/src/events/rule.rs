//! Rules that send events: how they are checked, planned and delivered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use logship_config::receiver::ReceiverConfig;
use logship_config::rule::RuleError;
use logship_config::scope::Scope;
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_config::stage_name::{ComponentDigest, DIGEST_PREFIX};
use logship_logstore::{ShippingRule, TaskId};
use logship_registry::Registry;
use logship_runtime::stage::{Identity, StageError};
use logship_sink::open;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::dead_letter::{DeadLetters, Origin};
use crate::engine::error::{Failure, PlanError};
use crate::engine::plan::{Plan, PlanRecord, PlanSummary};
use crate::engine::preview::{Candidate, OutputFactory, PreviewError};
use crate::engine::stream::ShardTasks;
use crate::engine::work::{RuleSpec, StreamPlan, StreamWork, Work};
use crate::events::delivery::Delivery;
use crate::events::format::transport;
use crate::events::formatters::{DeliveryError, Formatters};
use crate::events::shard::TaskReader;
use crate::pipeline::PipelineError;

/// Memory budget for a rule's in-flight logs, in bytes.
const MEMORY_BUDGET: usize = 16 << 20;

/// The rule in the stored plan of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PlannedRule {
    /// The rule, with transformers pinned by digest.
    pub(super) siem: SiemRule,
}

/// Rules that send events to receivers.
#[derive(Debug)]
pub struct Events {
    pub(super) registry: Registry,
    receivers: BTreeMap<String, ReceiverConfig>,
    /// The rules that may use a receiver, by its name.
    scopes: BTreeMap<String, Scope>,
    dead_letters: Arc<DeadLetters>,
    /// Consecutive failures of a stage that open its circuit breaker.
    failure_threshold: usize,
}

/// The plan of a rule that sends events.
#[derive(Debug)]
pub struct EventPlan {
    content: String,
    pub(super) delivery: Delivery,
}

impl From<DeliveryError> for PlanError {
    fn from(error: DeliveryError) -> Self {
        match error {
            DeliveryError::Stage(error) => PipelineError::Stage(error).into(),
            DeliveryError::Transform(error) => PipelineError::Transform(error).into(),
            error @ DeliveryError::Transport { .. } => Failure::new(error).into(),
        }
    }
}

impl Events {
    /// Creates the rules. `receivers` are those that rules can name. A stage that fails `failure_threshold` times in a
    /// row has its circuit breaker opened.
    pub fn new(
        registry: Registry,
        receivers: BTreeMap<String, ReceiverConfig>,
        dead_letters: DeadLetters,
        failure_threshold: usize,
    ) -> Self {
        let scopes = BTreeMap::new();
        Self { registry, receivers, scopes, dead_letters: Arc::new(dead_letters), failure_threshold }
    }

    /// Limits the receivers that rules may use, by name.
    #[must_use]
    pub fn with_scopes(self, scopes: BTreeMap<String, Scope>) -> Self {
        Self { scopes, ..self }
    }

    /// Returns true if rules of a project may use a receiver.
    fn is_open(&self, receiver: &str, project: &str) -> bool {
        self.scopes.get(receiver).is_none_or(|scope| scope.allows_project(project))
    }

    /// Fails unless the receiver is open to the rule's project.
    fn check_scope(&self, project: &str, rule: &SiemRule) -> Result<(), PlanError> {
        if self.is_open(&rule.receiver, project) && self.receivers.contains_key(&rule.receiver) {
            return Ok(());
        }
        let known = self.receivers.keys().filter(|name| self.is_open(name, project));
        let known = known.map(String::as_str).collect::<Vec<_>>().join(", ");
        let problem = format!(
            "the service's settings define no receiver {:?} for this project; known receivers: {}",
            rule.receiver,
            if known.is_empty() { "none" } else { &known }
        );
        Err(RuleError::field("receiver", problem).into())
    }

    fn delivery(&self, rule: &SiemRule, registry: &Registry) -> Result<Delivery, PlanError> {
        let (name, config) = (&rule.receiver, self.receiver(rule)?);
        let receiver = open::event_sink(name, config)
            .map_err(|source| PlanError::Receiver { name: name.clone(), source })?;
        let formatters = self.formatters(rule, self.stage(rule)?, registry)?;
        Ok(Delivery::new(Arc::from(receiver), formatters, Arc::clone(&self.dead_letters))
            .with_memory_budget(MEMORY_BUDGET))
    }

    /// Checks a rule with the stages of a registry.
    pub(super) fn check_with(&self, rule: &SiemRule, registry: &Registry) -> Result<(), PlanError> {
        self.delivery(rule, registry).map(drop)
    }

    /// Opens the stages of a rule. `stage` is the name of the formatter.
    pub(super) fn formatters(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatters, PlanError> {
        let transport = transport(self.receiver(rule)?);
        let (format, threshold) = (rule.format.clone(), Some(self.failure_threshold));
        Ok(Formatters::new(registry, transport, &rule.transform, stage, format, threshold)?)
    }

    /// The name of a rule's formatter.
    pub(super) fn stage<'a>(&'a self, rule: &'a SiemRule) -> Result<&'a str, PlanError> {
        let built_in = self.receiver(rule)?.stage();
        Ok(rule.stage.as_deref().unwrap_or(built_in))
    }

    fn receiver(&self, rule: &SiemRule) -> Result<&ReceiverConfig, PlanError> {
        let name = &rule.receiver;
        let missing = || {
            let problem = format!("the service's settings define no receiver {name:?}");
            RuleError::field("receiver", problem).into()
        };
        self.receivers.get(name).ok_or_else(missing)
    }
}

impl Work for Events {
    fn target(&self) -> &'static str {
        SIEM
    }

    fn check(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        self.check_scope(rule.project, &SiemRule::of(rule.name, rule.configuration)?)?;
        self.check_stages(rule, &self.registry)
    }

    fn check_stages(&self, rule: RuleSpec<'_>, registry: &Registry) -> Result<(), PlanError> {
        self.check_with(&SiemRule::of(rule.name, rule.configuration)?, registry)
    }

    fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError> {
        PlanRecord::summarize(content, |PlannedRule { siem }| {
            let configuration = siem.configuration();
            (siem.name, configuration)
        })
    }

    fn rule_components(&self, rule: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError> {
        Ok(SiemRule::of(rule.name, rule.configuration)?.pinned_components().collect())
    }

    fn plan_components(&self, content: &str) -> Result<Vec<ComponentDigest>, PlanError> {
        let PlanRecord { rule, digest, .. } = PlanRecord::<PlannedRule>::parse(content)?;
        let formatter = digest.as_deref().and_then(ComponentDigest::parse);
        Ok(rule.siem.pinned_components().chain(formatter).collect())
    }

    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        self.open_preview(rule, candidate)
    }
}

impl StreamWork for Events {
    type Plan = EventPlan;

    fn is_enabled(&self, rule: &ShippingRule) -> Result<bool, PlanError> {
        Ok(SiemRule::of(&rule.name, &rule.configuration)?.enabled)
    }

    fn build(&self, rule: RuleSpec<'_>) -> Result<EventPlan, PlanError> {
        let parsed = SiemRule::of(rule.name, rule.configuration)?;
        self.check_scope(rule.project, &parsed)?;
        let delivery = self.delivery(&parsed, &self.registry)?;
        let (identity, transforms) = (delivery.formatters.identity(), delivery.formatters.transforms());
        let stages = transforms.stages().chain([identity]);
        let planned = PlannedRule { siem: SiemRule { transform: transforms.pinned(), ..parsed } };
        let record = PlanRecord {
            digest: Some(identity.digest().to_owned()),
            ..PlanRecord::new((rule.project, rule.logstore), planned, stages)
        };
        Ok(EventPlan { content: serde_json::to_string(&record)?, delivery })
    }

    fn restore(
        &self,
        current: &EventPlan,
        content: &str,
        failed_stage: Option<&str>,
    ) -> Result<Option<EventPlan>, PlanError> {
        let Ok(PlanRecord { rule: PlannedRule { siem }, digest: Some(digest), .. }) =
            PlanRecord::parse(content)
        else {
            return Ok(None);
        };
        let formatters = &current.delivery.formatters;
        let is_same =
            digest == formatters.identity().digest() && siem.transform == formatters.transforms().pinned();
        if is_same || failed_stage == Some(&*digest) {
            return Ok(None);
        }
        let formatters = self.formatters(&siem, &format!("{DIGEST_PREFIX}{digest}"), &self.registry)?;
        let delivery = Delivery { formatters: Arc::new(formatters), ..current.delivery.clone() };
        Ok(Some(EventPlan { content: content.to_owned(), delivery }))
    }

    async fn deliver(&self, plan: &EventPlan, tasks: ShardTasks<Self>, stop: watch::Receiver<bool>) {
        let origin = Origin {
            rule: tasks.rule().to_owned(),
            receiver: plan.delivery.receiver.name().to_owned(),
            project: tasks.project().to_owned(),
            logstore: tasks.logstore().to_owned(),
            shard: tasks.shard(),
            work: None,
        };
        let finished = tasks.finished();
        let _ = plan.delivery.run(&origin, TaskReader { plan, tasks }, finished, stop).await;
    }
}

impl Plan for EventPlan {
    fn content(&self) -> &str {
        &self.content
    }

    fn stages(&self) -> Vec<&Identity> {
        let formatters = &self.delivery.formatters;
        formatters.transforms().stages().chain([formatters.identity()]).collect()
    }

    fn output_name(&self, _task: TaskId, _shard: u32) -> Result<String, StageError> {
        Ok(self.delivery.receiver.name().to_owned())
    }
}

impl StreamPlan for EventPlan {
    fn problem(&self) -> Option<String> {
        self.delivery.receiver.health().problem()
    }

    fn failing_stage(&self) -> Option<String> {
        let formatters = &self.delivery.formatters;
        formatters.breaker().is_failing().then(|| formatters.identity().digest().to_owned())
    }

    fn record_failure(&self, message: String, wait: Duration) {
        self.delivery.receiver.health().record_failure(message, wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_record_keeps_its_stored_form() {
        let siem = SiemRule { name: "soc".into(), receiver: "splunk".into(), ..SiemRule::default() };
        let stored = format!(
            r#"{{"project":"p","logstore":"l","siem":{},"stages":["siem-hec 1.0.0"],"digest":"ab"}}"#,
            serde_json::to_string(&siem).unwrap()
        );
        let record = PlanRecord::<PlannedRule>::parse(&stored).unwrap();
        assert_eq!((&record.rule.siem, record.digest.as_deref()), (&siem, Some("ab")));
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
    }
}
