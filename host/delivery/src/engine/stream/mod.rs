//! The driver of streams: one delivery for each shard of each rule.
//!
//! Each batch is a task of the rule. The task is on disk before anything is sent. One transaction marks it as
//! successful and moves the checkpoint, after the destination has confirmed the batch. A stuck task is shown as failed
//! while it is retried; the tasks behind it wait.
//!
//! # Layout
//! - This file: starts and stops the workers of rules. `worker`: the worker of one rule.
//! - `tasks`: the tasks of a shard, from the store to the kind of work, and back when they are delivered.

mod tasks;
mod worker;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use logship_logstore::{Logstore, ShippingRule};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use self::tasks::{FinishedTasks, NextTask, Revoked, ShardTasks, StreamTask};
use self::worker::Worker;
use crate::engine::DeliveryEngine;
use crate::engine::error::PlanError;
use crate::engine::plan::PlanCache;
use crate::engine::work::{RuleSpec, StreamWork, Work};

/// Interval of checks for changed rules and stuck tasks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for in-flight tasks when a rule changes or the service stops, if the destination fails. Twice as long if
/// it takes them.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of any kind of work.
pub(super) trait StreamDriver: Debug + Send + Sync {
    /// Returns the kind of work.
    fn work(&self) -> &dyn Work;

    /// Wakes the main loop after a change of rules or stages.
    fn wake(&self);

    /// Runs a worker for each enabled rule until `stop`, and follows changes of rules.
    fn run(
        self: Arc<Self>,
        engine: Arc<DeliveryEngine>,
        stop: watch::Receiver<bool>,
    ) -> BoxFuture<'static, ()>;
}

/// The streams of a kind of work.
#[derive(Debug)]
pub(super) struct Stream<W: StreamWork> {
    work: W,
    plans: PlanCache<W::Plan>,
    /// Signals a possible change of rules or stages.
    changed: Notify,
}

impl<W: StreamWork> Stream<W> {
    pub(super) fn new(work: W) -> Self {
        Self { work, plans: PlanCache::default(), changed: Notify::new() }
    }

    /// The plan for the next task of a rule. Blocks.
    fn current_plan(
        &self,
        rule: RuleSpec<'_>,
        stored: &ShippingRule,
        revision: i64,
    ) -> Result<Arc<W::Plan>, PlanError> {
        self.plans.current(stored, revision, |_| Ok(Arc::new(self.work.build(rule)?)))
    }
}

impl<W: StreamWork> StreamDriver for Stream<W> {
    fn work(&self) -> &dyn Work {
        &self.work
    }

    fn wake(&self) {
        self.changed.notify_one();
    }

    fn run(
        self: Arc<Self>,
        engine: Arc<DeliveryEngine>,
        stop: watch::Receiver<bool>,
    ) -> BoxFuture<'static, ()> {
        Supervisor { stream: self, engine }.run(stop).boxed()
    }
}

/// Runs the workers of rules.
struct Supervisor<W: StreamWork> {
    stream: Arc<Stream<W>>,
    engine: Arc<DeliveryEngine>,
}

/// A running worker.
struct Running<W: StreamWork> {
    stop: watch::Sender<bool>,
    worker: Arc<Worker<W>>,
    task: JoinHandle<()>,
}

impl<W: StreamWork> Supervisor<W> {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut running: HashMap<i64, Running<W>> = HashMap::new();
        loop {
            let enabled = self.enabled();
            for (number, running) in &running {
                let is_same = enabled.get(number).is_some_and(|(_, rule)| *rule == running.worker.rule);
                if !is_same || !running.worker.has_stages().await {
                    running.stop.send_replace(true);
                }
            }
            running.retain(|_, running| !running.task.is_finished());
            for (number, (logstore, rule)) in enabled {
                if !running.contains_key(&number)
                    && let Some(begun) = self.begin(&logstore, rule).await
                {
                    running.insert(number, begun);
                }
            }
            tokio::select! {
                () = stopped(&mut stop) => break,
                () = self.stream.changed.notified() => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
        for running in running.values() {
            running.stop.send_replace(true);
        }
        let ended = join_all(running.into_values().map(|running| running.task));
        let _ = timeout(2 * SHUTDOWN_TIMEOUT + POLL_INTERVAL, ended).await;
    }

    /// The enabled rules, by number.
    fn enabled(&self) -> HashMap<i64, (Arc<Logstore>, ShippingRule)> {
        let (work, pauses) = (&self.stream.work, &self.engine.pauses);
        let catalog = self.engine.store.catalog();
        let mut enabled = HashMap::new();
        for logstore in catalog.logstores() {
            let is_own =
                |rule: &&ShippingRule| rule.target == work.target() && !self.engine.waits(rule.number());
            for rule in logstore.rules.values().filter(is_own) {
                match work.is_enabled(rule) {
                    Ok(true) => drop(enabled.insert(rule.number(), (Arc::clone(logstore), rule.clone()))),
                    Ok(false) => pauses.clear(rule.number(), false),
                    Err(error) => drop(pauses.pause(rule.number(), error.to_string(), u64::MAX)),
                }
            }
        }
        self.stream.plans.retain_rules(|rule| enabled.contains_key(&rule));
        enabled
    }

    /// Starts the worker of a rule. `None` if the rule is wrong.
    async fn begin(&self, logstore: &Arc<Logstore>, rule: ShippingRule) -> Option<Running<W>> {
        // Read before the stages are looked up, so that a concurrent swap is detected when a task is created.
        let revision = self.engine.store.catalog().stages().revision;
        let (stream, logstore, stored) = (Arc::clone(&self.stream), Arc::clone(logstore), rule.clone());
        let (project, name) = (logstore.project.clone(), logstore.name.clone());
        let build = move || {
            let spec = RuleSpec::of(&logstore.project, &logstore.name, &stored);
            stream.current_plan(spec, &stored, revision)
        };
        let plan = match on_thread(build).await {
            Ok(plan) => plan,
            Err(error) => {
                if self.engine.pauses.pause(rule.number(), error.to_string(), u64::MAX) {
                    tracing::warn!(rule = rule.name, %error, "can't start the rule");
                }
                return None;
            }
        };
        let (engine, stream) = (Arc::clone(&self.engine), Arc::clone(&self.stream));
        let worker = Arc::new(Worker::new(engine, stream, rule, (project, name), plan, revision));
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(Arc::clone(&worker).run(stop.subscribe()));
        Some(Running { stop, worker, task })
    }
}

/// Waits for the stop signal.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A dropped sender counts as the signal.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Runs blocking work on a thread.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        },
    }
}
