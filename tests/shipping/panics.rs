//! Steps of a task that panic. The task fails and is retried like any other.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use logship_config::shipping::Shipping;
use logship_config::stage_name::ComponentDigest;
use logship_delivery::engine::batch::{Attempt, LogSample};
use logship_delivery::engine::plan::{Plan, PlanCache, PlanSummary};
use logship_delivery::engine::preview::{OutputFactory, PreviewError};
use logship_delivery::engine::work::{BatchPlan, BatchWork, Prepared, RuleLimits, RuleSpec};
use logship_delivery::engine::{PlanError, TaskError, Work};
use logship_delivery::preview::Candidate;
use logship_logstore::{ShippingRule, Status, TaskId};
use logship_registry::Registry;
use logship_runtime::stage::{Identity, StageError};
use logship_sink::object::ObjectInfo;
use logship_source::shard_reader::ShardReader;

use crate::shipping::harness::*;

/// A step that panics.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Build,
    Prepare,
    Deliver,
}

/// Panics in a step while `left` is not 0.
#[derive(Debug)]
struct Fuse {
    step: Step,
    left: AtomicUsize,
}

impl Fuse {
    fn reached(&self, step: Step) {
        let one_less = |left: usize| left.checked_sub(1);
        if step == self.step && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        {
            panic!("a bug in {step:?}");
        }
    }
}

/// Work with a step that panics.
#[derive(Debug)]
struct Panicking<W>(W, Arc<Fuse>);

#[derive(Debug)]
struct PanickingPlan(Arc<dyn BatchPlan>, Arc<Fuse>);

impl<W: Work> Work for Panicking<W> {
    fn target(&self) -> &'static str {
        self.0.target()
    }

    fn check(&self, rule: RuleSpec<'_>) -> Result<(), PlanError> {
        self.0.check(rule)
    }

    fn check_stages(&self, rule: RuleSpec<'_>, registry: &Registry) -> Result<(), PlanError> {
        self.0.check_stages(rule, registry)
    }

    fn summarize(&self, content: &str) -> Result<PlanSummary, PlanError> {
        self.0.summarize(content)
    }

    fn rule_components(&self, rule: RuleSpec<'_>) -> Result<Vec<ComponentDigest>, PlanError> {
        self.0.rule_components(rule)
    }

    fn plan_components(&self, content: &str) -> Result<Vec<ComponentDigest>, PlanError> {
        self.0.plan_components(content)
    }

    fn preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        self.0.preview(rule, candidate)
    }
}

impl<W: BatchWork> BatchWork for Panicking<W> {
    fn limits(&self, rule: &ShippingRule) -> Result<RuleLimits, PlanError> {
        self.0.limits(rule)
    }

    fn build(&self, rule: RuleSpec<'_>) -> Result<Arc<dyn BatchPlan>, PlanError> {
        self.1.reached(Step::Build);
        Ok(Arc::new(PanickingPlan(self.0.build(rule)?, Arc::clone(&self.1))))
    }

    fn restore(
        &self,
        content: &str,
        rule: Option<&ShippingRule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        Ok(Arc::new(PanickingPlan(self.0.restore(content, rule, cache)?, Arc::clone(&self.1))))
    }
}

impl Plan for PanickingPlan {
    fn content(&self) -> &str {
        self.0.content()
    }

    fn stages(&self) -> Vec<&Identity> {
        self.0.stages()
    }

    fn output_name(&self, task: TaskId, shard: u32) -> Result<String, StageError> {
        self.0.output_name(task, shard)
    }
}

impl BatchPlan for PanickingPlan {
    fn encode_sample(&self, sample: LogSample<'_>) -> Result<u64, TaskError> {
        self.0.encode_sample(sample)
    }

    fn prepare<'p>(
        &'p self,
        attempt: &Attempt<'_>,
        reader: &mut ShardReader,
    ) -> Result<Prepared<'p>, TaskError> {
        self.1.reached(Step::Prepare);
        let prepared = self.0.prepare(attempt, reader)?;
        let deliver = prepared.deliver.map(|deliver| -> logship_delivery::engine::work::Deliver<'p> {
            Box::new(move |attempt| {
                self.1.reached(Step::Deliver);
                deliver(attempt)
            })
        });
        Ok(Prepared { deliver, ..prepared })
    }

    fn find(&self, object: &str) -> Result<Option<ObjectInfo>, PlanError> {
        self.0.find(object)
    }
}

fn test(step: Step, panics: usize) -> Test {
    let mut test = Test::new(1);
    let fuse = Arc::new(Fuse { step, left: AtomicUsize::new(panics) });
    test.wrap_work(Shipping::default(), |objects| Panicking(objects, fuse));
    test.create(&rule());
    test.put(0, 3, 10);
    test
}

#[test]
fn task_that_panics_fails_and_is_retried() {
    for step in [Step::Prepare, Step::Deliver] {
        let test = test(step, 2);
        test.pass_and_ship(300 * SECOND);
        for attempts in 1..3 {
            let task = &test.tasks()[0];
            assert_eq!((task.status, task.failures), (Status::Failed, attempts), "{step:?}");
            let message = &task.message;
            assert!(
                message.contains("panicked") && message.contains(&format!("a bug in {step:?}")),
                "{message}"
            );
            assert!(task.next_attempt.is_some());
            test.pass_and_ship(HOUR);
        }
        assert_eq!(test.statuses(), [Status::Success], "{step:?}");
        test.assert_each_log_once();
    }
}

#[test]
fn next_task_of_a_shard_does_not_wait_for_one_that_panicked() {
    let mut test = test(Step::Prepare, 1);
    test.pass_and_ship(300 * SECOND);
    test.put(0, 2, 10);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed, Status::Success]);
    test.pass_and_ship(HOUR);
    test.assert_each_log_once();
}

#[test]
fn rule_whose_plan_panics_tries_again() {
    let test = test(Step::Build, 1);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.tasks().len(), 0);
    let logstore = test.logstore();
    let problem = test.engine.problem(logstore.rule("to-lake").unwrap().number());
    assert!(problem.is_some_and(|problem| problem.contains("a bug in Build")));
    test.pass_and_ship(MINUTE);
    test.assert_each_log_once();
    assert_eq!(test.statuses(), [Status::Success]);
}
