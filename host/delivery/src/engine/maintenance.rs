//! Maintenance: recovers orphaned tasks, deletes old ones, and collects unused components.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logship_config::stage_name::ComponentDigest;
use logship_logstore::{ShippingRule, Store, StoreError};

use crate::engine::DeliveryEngine;
use crate::engine::error::PlanError;
use crate::engine::work::RuleSpec;

/// Interval at which old tasks are deleted.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(600);

/// Interval at which orphaned tasks are recovered.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(15);

/// Retention of permanently failed tasks, in seconds. Their logs are usually deleted by then.
const KEEP_FAILED_SECONDS: u64 = 30 * 86_400;

impl DeliveryEngine {
    /// Recovers orphaned tasks: they are running on disk, but have no job. The last process left them, or their result
    /// could not be recorded. The worker of a stream recovers its tasks itself.
    pub(super) fn recover_orphans(&self) -> Result<(), StoreError> {
        let running = self.store.running_tasks()?;
        let catalog = self.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        let streams: HashSet<i64> =
            rules.filter(|rule| self.is_stream(rule)).map(ShippingRule::number).collect();
        let mut queue = self.lock();
        let runs = |rule: &i64| !streams.contains(rule) && !self.waits(*rule);
        for (rule, task) in running.into_iter().filter(|(rule, _)| runs(rule)) {
            queue.retry(rule, task);
        }
        drop(queue);
        self.wake_pool();
        Ok(())
    }

    /// Recovers orphaned tasks and deletes old ones, periodically and forever.
    pub(super) async fn run_maintenance(self: Arc<Self>) {
        let mut last_cleanup = Instant::now();
        loop {
            tokio::time::sleep(RECOVERY_INTERVAL).await;
            let engine = Arc::clone(&self);
            let maintain = move || {
                engine.plans.evict_unused();
                engine.registry().evict_unused();
                engine.recover_orphans()
            };
            let recovered = tokio::task::spawn_blocking(maintain).await;
            if let Ok(Err(error)) = recovered {
                tracing::error!(%error, "can't recover orphaned tasks");
            }
            if last_cleanup.elapsed() >= CLEANUP_INTERVAL {
                last_cleanup = Instant::now();
                self.delete_old_tasks().await;
                let engine = Arc::clone(&self);
                let _ = tokio::task::spawn_blocking(move || engine.collect_garbage()).await;
            }
        }
    }

    async fn delete_old_tasks(&self) {
        // Deletes none while the clock may be wrong.
        let Some(now) = self.store.expiry_time() else { return };
        let ago = |seconds: u64| now.saturating_sub(seconds * 1_000_000);
        let (kept, failed) =
            (self.settings.keep_tasks_seconds, self.settings.keep_tasks_seconds.max(KEEP_FAILED_SECONDS));
        loop {
            match self.store.delete_old_tasks(ago(kept), ago(failed)).await {
                Ok(count) if count == Store::TASK_DELETE_BATCH => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(%error, "can't delete old tasks");
                    break;
                }
            }
        }
        let catalog = self.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        let rules: HashSet<i64> = rules.map(ShippingRule::number).collect();
        self.plans.retain_rules(|rule| rules.contains(&rule));
    }

    /// Deletes the components that no task, alias or rule uses. Deletes none if a rule or a plan can't be read. Blocks.
    pub fn collect_garbage(&self) {
        let unknown = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "can't determine which components are in use");
        };
        let plans = match self.store.plans() {
            Ok(plans) => plans,
            Err(error) => return unknown(&error),
        };
        let used = match self.used_components(&plans) {
            Ok(used) => used,
            Err(error) => return unknown(&error),
        };
        match self.registry().collect_garbage(&used) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "deleted unused components"),
            Err(error) => tracing::error!(%error, "can't delete unused components"),
        }
    }

    /// Returns the components that aliases, rules and plans of tasks use.
    fn used_components(&self, plans: &[String]) -> Result<HashSet<ComponentDigest>, PlanError> {
        let catalog = self.store.catalog();
        let versions = catalog.stages().aliases.values().flat_map(|alias| &alias.versions);
        let mut used: HashSet<ComponentDigest> =
            versions.filter_map(|version| ComponentDigest::parse(&version.digest)).collect();
        for logstore in catalog.kept_logstores() {
            for rule in logstore.rules.values() {
                // Rules without a kind of work are only stored, and run no stages.
                if let Ok(work) = self.work(&rule.target) {
                    used.extend(work.rule_components(RuleSpec::of(
                        &logstore.project,
                        &logstore.name,
                        rule,
                    ))?);
                }
            }
        }
        for plan in plans {
            used.extend(self.first_that_reads(|work| work.plan_components(plan))?);
        }
        Ok(used)
    }
}
