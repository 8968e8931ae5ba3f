//! Maintenance: recovers orphaned tasks, deletes old ones, and collects unused components.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logship_logstore::{ShippingRule, Store, StoreError};

use crate::engine::DeliveryEngine;

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
        for (rule, task) in running.into_iter().filter(|(rule, _)| !streams.contains(rule)) {
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
        let ago = |seconds: u64| self.store.clock().saturating_sub(seconds * 1_000_000);
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

    /// Deletes the components that no task, alias or rule uses. Blocks.
    pub fn collect_garbage(&self) {
        let catalog = self.store.catalog();
        let versions = catalog.stages().aliases.values().flat_map(|name| &name.versions);
        let mut needed: HashSet<String> = versions.map(|version| version.digest.clone()).collect();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        rules.for_each(|rule| needed.extend(digests(&rule.configuration.to_string())));
        let plans = match self.store.plans() {
            Ok(plans) => plans,
            Err(error) => return tracing::error!(%error, "can't determine which components are in use"),
        };
        plans.iter().for_each(|plan| needed.extend(digests(plan)));
        match self.registry().collect_garbage(&needed) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "deleted unused components"),
            Err(error) => tracing::error!(%error, "can't delete unused components"),
        }
    }
}

/// All substrings of a text that may be the digest of a component.
fn digests(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned)
}
