//! The SIEM rules of a store: one delivery for each shard of each rule.
//!
//! Each batch is a task of the rule. The task is on disk before anything is sent. One transaction marks it as
//! successful and moves the checkpoint, after the receiver has confirmed the batch. A stuck task is shown as failed
//! while it is retried; the tasks behind it wait.
//!
//! # Layout
//! - This file: [`Rules`], which starts and stops the workers of rules. `worker`: the worker of one rule.
//!   `store_reader`: reads a shard of the store. `checkpoints`: saves finished tasks.

mod checkpoints;
mod store_reader;
mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logship_logstore::{Logstore, ShippingRule, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::worker::RuleWorker;
use crate::events::dead_letter::DeadLetters;
use crate::events::delivery::{Delivery, DeliveryError, Formatters, on_thread, stopped};
use crate::events::format::Formatting;
use crate::events::format::transport;
use logship_config::receiver::ReceiverConfig;
use logship_config::rule::RuleError;
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_registry::Registry;
use logship_sink::error::SinkError;
use logship_sink::open;

/// Interval of checks for changed rules and stuck tasks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for in-flight tasks when a rule changes or the service stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Memory budget for a rule's in-flight logs, in bytes.
const MEMORY_BUDGET: usize = 16 << 20;

/// The stored plan of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SiemRecord {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule, with transformers pinned by digest.
    pub siem: SiemRule,
    /// Name and version of each stage.
    pub stages: Vec<String>,
    /// SHA-256 of the formatter.
    pub digest: String,
}

/// An error in a SIEM rule.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The rule is wrong.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The receiver's settings are wrong.
    #[error("receiver {name}: {source}")]
    Receiver {
        /// The receiver.
        name: String,
        /// The cause.
        source: SinkError,
    },
    /// A stage is wrong.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// The SIEM rules of a store.
#[derive(Debug)]
pub struct Rules {
    store: Arc<Store>,
    registry: Registry,
    receivers: BTreeMap<String, ReceiverConfig>,
    dead_letters: Arc<DeadLetters>,
    /// Consecutive failures of a stage that open its circuit breaker.
    failure_threshold: usize,
    /// Current failures, by rule number.
    problems: Mutex<HashMap<i64, String>>,
    /// Signals a possible change of rules or stages.
    changed: Notify,
}

impl Rules {
    /// Creates the SIEM rules of a store. `receivers` are those that rules can name. A stage that fails
    /// `failure_threshold` times in a row has its circuit breaker opened.
    pub fn new(
        store: Arc<Store>,
        registry: Registry,
        receivers: BTreeMap<String, ReceiverConfig>,
        dead_letters: DeadLetters,
        failure_threshold: usize,
    ) -> Self {
        let dead_letters = Arc::new(dead_letters);
        let (problems, changed) = (Mutex::default(), Notify::new());
        Self { store, registry, receivers, dead_letters, failure_threshold, problems, changed }
    }

    /// Wakes the main loop after a change of rules or stages.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Checks a rule: its receiver exists, and its stage accepts its configuration.
    ///
    /// # Errors
    /// Describes the first problem.
    pub fn check(&self, rule: &SiemRule) -> Result<(), RulesError> {
        self.check_with(rule, &self.registry)
    }

    /// Checks a rule with the stages of another registry.
    ///
    /// # Errors
    /// Describes the first problem.
    pub fn check_with(&self, rule: &SiemRule, registry: &Registry) -> Result<(), RulesError> {
        self.delivery(rule, registry).map(drop)
    }

    /// The current failure of a rule, if there is one.
    pub fn problem(&self, rule: i64) -> Option<String> {
        self.problems().get(&rule).cloned()
    }

    fn problems(&self) -> MutexGuard<'_, HashMap<i64, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivery(&self, rule: &SiemRule, registry: &Registry) -> Result<Delivery, RulesError> {
        let (name, config) = (&rule.receiver, self.receiver(rule)?);
        let receiver = open::event_sink(name, config)
            .map_err(|source| RulesError::Receiver { name: name.clone(), source })?;
        let formatters = self.formatters(rule, self.stage(rule)?, registry)?;
        Ok(Delivery::new(Arc::from(receiver), formatters, Arc::clone(&self.dead_letters))
            .with_memory_budget(MEMORY_BUDGET))
    }

    /// Opens the stages of a rule. `stage` is the name of the formatter.
    fn formatters(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatters, RulesError> {
        let transport = transport(self.receiver(rule)?);
        let format = rule.format.clone();
        Ok(Formatters::new(
            registry,
            transport,
            &rule.transform,
            stage,
            format,
            Some(self.failure_threshold),
        )?)
    }

    /// Creates a formatting session for a rule.
    pub fn formatting(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatting, RulesError> {
        Ok(self.formatters(rule, stage, registry)?.formatting())
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The name of a rule's formatter.
    pub fn stage<'a>(&'a self, rule: &'a SiemRule) -> Result<&'a str, RulesError> {
        let built_in = self.receiver(rule)?.stage();
        Ok(rule.stage.as_deref().unwrap_or(built_in))
    }

    fn receiver(&self, rule: &SiemRule) -> Result<&ReceiverConfig, RulesError> {
        let name = &rule.receiver;
        let missing = || {
            let known: Vec<_> = self.receivers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            let problem =
                format!("the service's settings define no receiver {name:?}; known receivers: {known}");
            RuleError::field("receiver", problem).into()
        };
        self.receivers.get(name).ok_or_else(missing)
    }

    /// Runs a worker for each enabled rule until `stop`, and follows changes of rules.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut running: HashMap<i64, Running> = HashMap::new();
        loop {
            let enabled = self.enabled();
            for (number, running) in &running {
                let is_same = enabled.get(number).is_some_and(|(_, rule, _)| *rule == running.worker.rule);
                if !is_same || !running.worker.has_stage().await {
                    running.stop.send_replace(true);
                }
            }
            running.retain(|_, running| !running.task.is_finished());
            for (number, (logstore, rule, parsed)) in enabled {
                if !running.contains_key(&number)
                    && let Some(begun) = self.begin(&logstore, rule, parsed).await
                {
                    running.insert(number, begun);
                }
            }
            tokio::select! {
                () = stopped(&mut stop) => break,
                () = self.changed.notified() => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
        for running in running.values() {
            running.stop.send_replace(true);
        }
        let ended = futures_util::future::join_all(running.into_values().map(|running| running.task));
        let _ = timeout(SHUTDOWN_TIMEOUT + POLL_INTERVAL, ended).await;
    }

    /// The enabled rules, by number.
    fn enabled(&self) -> HashMap<i64, (Arc<Logstore>, ShippingRule, SiemRule)> {
        let catalog = self.store.catalog();
        let mut enabled = HashMap::new();
        let mut problems = self.problems();
        let mut known = HashSet::new();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values().filter(|rule| rule.target == SIEM) {
                match SiemRule::of(&rule.name, &rule.configuration) {
                    Ok(parsed) if parsed.enabled => {
                        known.insert(rule.number());
                        enabled.insert(rule.number(), (Arc::clone(logstore), rule.clone(), parsed));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        known.insert(rule.number());
                        problems.insert(rule.number(), error.to_string());
                    }
                }
            }
        }
        problems.retain(|rule, _| known.contains(rule));
        enabled
    }

    /// Starts the worker of a rule. `None` if the rule is wrong.
    async fn begin(
        self: &Arc<Self>,
        logstore: &Arc<Logstore>,
        rule: ShippingRule,
        parsed: SiemRule,
    ) -> Option<Running> {
        let (rules, rule_copy) = (Arc::clone(self), parsed.clone());
        // Read before the stage is looked up, so that a concurrent swap is detected when a task is created.
        let revision = self.store.catalog().stages().revision;
        let delivery = match on_thread(move || rules.delivery(&rule_copy, &rules.registry)).await {
            Ok(delivery) => delivery,
            Err(error) => {
                let known = self.problems().insert(rule.number(), error.to_string());
                if known.is_none_or(|known| known != error.to_string()) {
                    tracing::warn!(rule = rule.name, %error, "can't start the rule");
                }
                return None;
            }
        };
        let stage = self.stage(&parsed).unwrap_or_default().to_owned();
        let (identity, transforms) = (delivery.formatters.identity(), delivery.formatters.transforms());
        let stages = transforms.stages().chain([identity]);
        let (transform, pinned) = (parsed.transform.clone(), transforms.pinned());
        let record = SiemRecord {
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            stages: stages.map(|stage| format!("{} {}", stage.name(), stage.version())).collect(),
            digest: identity.digest().to_owned(),
            siem: SiemRule { transform: pinned, ..parsed },
        };
        // Strings always serialize.
        let plan = serde_json::to_string(&record).unwrap_or_default();
        let worker = RuleWorker {
            rules: Arc::clone(self),
            rule: rule.clone(),
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            delivery,
            stage,
            transform,
            revision: AtomicI64::new(revision),
            plan,
            in_flight: Mutex::default(),
        };
        let (worker, stop) = (Arc::new(worker), watch::Sender::new(false));
        let task = tokio::spawn(Arc::clone(&worker).run(stop.subscribe()));
        Some(Running { stop, worker, task })
    }
}

/// A running worker.
struct Running {
    stop: watch::Sender<bool>,
    worker: Arc<RuleWorker>,
    task: JoinHandle<()>,
}
