//! Deliveries of a stream that panic. Their tasks fail, and are delivered again.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use logship_config::shipping::Shipping;
use logship_config::stage_name::ComponentDigest;
use logship_delivery::engine::plan::{Plan, PlanSummary};
use logship_delivery::engine::preview::{OutputFactory, PreviewError};
use logship_delivery::engine::stream::{NextTask, ShardTasks};
use logship_delivery::engine::work::{RuleSpec, StreamPlan, StreamWork};
use logship_delivery::engine::{DeliveryEngine, PlanError, Work};
use logship_delivery::preview::Candidate;
use logship_logstore::{ObjectManifest, RuleSettings, RuleStart, ShippingRule, Status, TaskId};
use logship_registry::Registry;
use logship_runtime::stage::{Identity, StageError};
use serde_json::json;
use tokio::sync::watch;

use crate::shipping::harness::*;

const TARGET: &str = "panicking";

/// Counts what it delivers. Panics with the first tasks.
#[derive(Debug)]
struct Panicking {
    panics: AtomicUsize,
    delivered: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct NoPlan;

impl Work for Panicking {
    fn target(&self) -> &'static str {
        TARGET
    }

    fn check(&self, _: RuleSpec<'_>) -> Result<(), PlanError> {
        Ok(())
    }

    fn check_stages(&self, _: RuleSpec<'_>, _: &Registry) -> Result<(), PlanError> {
        Ok(())
    }

    fn summarize(&self, _: &str) -> Result<PlanSummary, PlanError> {
        Err(PlanError::Gone)
    }

    fn rule_components(&self, _: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError> {
        Ok(vec![])
    }

    fn plan_components(&self, _: &str) -> Result<Vec<ComponentDigest>, PlanError> {
        Ok(vec![])
    }

    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        _: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        Err(PreviewError::NoTasks(rule.name.clone()))
    }
}

impl StreamWork for Panicking {
    type Plan = NoPlan;

    fn is_enabled(&self, _: &ShippingRule) -> Result<bool, PlanError> {
        Ok(true)
    }

    fn build(&self, _: RuleSpec<'_>) -> Result<NoPlan, PlanError> {
        Ok(NoPlan)
    }

    fn restore(&self, _: &NoPlan, _: &str, _: Option<&str>) -> Result<Option<NoPlan>, PlanError> {
        Ok(None)
    }

    async fn deliver(&self, _: &NoPlan, mut tasks: ShardTasks<Self>, mut stop: watch::Receiver<bool>) {
        let finished = tasks.finished();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tasks.wait() => {}
            }
            let NextTask::Task(task) = tasks.next(1 << 20).await else { continue };
            let one_less = |left: usize| left.checked_sub(1);
            if self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                panic!("a bug in a delivery");
            }
            let rows = task.logs.iter().map(|slice| slice.batch.len()).sum();
            let (raw_bytes, stored_bytes) = (task.bytes as u64, task.bytes as u64);
            let manifest = ObjectManifest {
                rows: rows as u64,
                raw_bytes,
                stored_bytes,
                sha256: String::new(),
                objects: vec![],
            };
            if finished.save(task.id, task.end, &manifest).await.is_err() {
                return;
            }
            self.delivered.fetch_add(rows, Ordering::Relaxed);
        }
    }
}

impl Plan for NoPlan {
    fn content(&self) -> &str {
        "{}"
    }

    fn stages(&self) -> Vec<&Identity> {
        vec![]
    }

    fn output_name(&self, _: TaskId, _: u32) -> Result<String, StageError> {
        Ok("receiver".into())
    }
}

impl StreamPlan for NoPlan {
    fn problem(&self) -> Option<String> {
        None
    }

    fn failing_stage(&self) -> Option<String> {
        None
    }

    fn record_failure(&self, _: String, _: Duration) {}
}

#[test]
fn task_of_a_delivery_that_panics_fails_and_is_delivered_again() {
    let mut test = Test::new(1);
    let delivered = Arc::<AtomicUsize>::default();
    let work = Panicking { panics: AtomicUsize::new(1), delivered: Arc::clone(&delivered) };
    let (registry, handle) = (test.engine.registry().clone(), test.runtime.handle().clone());
    let engine = DeliveryEngine::new(Arc::clone(&test.store), registry, Shipping::default(), handle);
    let engine = Arc::new(engine.with_streams(work));
    let settings = RuleSettings { target: TARGET.into(), configuration: json!({}) };
    let logstore = test.logstore();
    let created = test.store.create_rule(&logstore, "stream", settings, RuleStart::Begin);
    test.runtime.block_on(created).unwrap();
    test.put(0, 3, 10);
    let running = test.runtime.block_on(async { engine.start() });
    let wait_for = |condition: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed().as_secs() < 60, "{:?}", test.tasks());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(&|| test.statuses() == [Status::Failed]);
    let message = &test.tasks()[0].message;
    assert!(message.contains("a bug in a delivery"), "{message}");
    wait_for(&|| test.statuses() == [Status::Success]);
    assert_eq!(delivered.load(Ordering::Relaxed), 3);
    test.runtime.block_on(running.end());
}
