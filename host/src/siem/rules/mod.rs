//! The rules of a store that send to SIEMs: one feed for each shard of each rule.
//!
//! A load is a task of the rule: on disk before anything of it is sent, and done, with the checkpoint, in one
//! transaction when the receiver has all of it. A task whose receiver does not take it is shown as failed while it is
//! tried on: there is nothing behind it that could be sent before.
//!
//! # Layout
//! - This file: [`Rules`], which rules there are to be. `work`: one rule that sends. `stored`: what it reads of a shard.
//!   `ledger`: where it writes down that this was received.

mod ledger;
mod stored;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logship_logstore::{Logstore, ShippingRule, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::work::Work;
use super::dead_letter::DeadLetters;
use super::feed::{Formatters, Outlet, OutletError, on_thread, told};
use super::format::Formatting;
use super::receiver::{Receiver, ReceiverConfig, ReceiverError};
use super::rule::{SIEM, SiemRule};
use crate::registry::Registry;
use crate::rule::RuleError;

/// How often it is looked for rules that changed, and for tasks that are stuck.
const LOOK: Duration = Duration::from_secs(1);

/// How long what is on its way has to be delivered when a rule changes, or the service ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes of logs of a rule that may be on their way.
const ROOM: usize = 16 << 20;

/// What made a task, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SiemRecord {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule, its transformers by their digests.
    pub siem: SiemRule,
    /// What the stages are called: name and version of each.
    pub stages: Vec<String>,
    /// SHA-256 of the one that formats.
    pub digest: String,
}

/// Why a rule can't send.
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
        /// What is wrong with it.
        source: ReceiverError,
    },
    /// Its stage.
    #[error(transparent)]
    Outlet(#[from] OutletError),
}

/// Sends by the rules of a store.
#[derive(Debug)]
pub struct Rules {
    store: Arc<Store>,
    registry: Registry,
    receivers: BTreeMap<String, ReceiverConfig>,
    dead_letters: Arc<DeadLetters>,
    /// Times in a row that a stage fails until it is tried now and then only.
    hold_after: usize,
    /// What keeps rules from sending, by their numbers.
    problems: Mutex<HashMap<i64, String>>,
    /// Something may be another than it was.
    changed: Notify,
}

impl Rules {
    /// The rules of a store. `receivers` are those that they name; a stage that fails `hold_after` times in a row is tried
    /// now and then only.
    pub fn new(
        store: Arc<Store>,
        registry: Registry,
        receivers: BTreeMap<String, ReceiverConfig>,
        dead_letters: DeadLetters,
        hold_after: usize,
    ) -> Self {
        let dead_letters = Arc::new(dead_letters);
        let (problems, changed) = (Mutex::default(), Notify::new());
        Self { store, registry, receivers, dead_letters, hold_after, problems, changed }
    }

    /// A stage may be another one now.
    pub fn hurry(&self) {
        self.changed.notify_one();
    }

    /// Checks a rule: there is such a receiver, and its stage takes its configuration.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self, rule: &SiemRule) -> Result<(), RulesError> {
        self.check_with(rule, &self.registry)
    }

    /// Checks a rule with the stages of another registry.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check_with(&self, rule: &SiemRule, registry: &Registry) -> Result<(), RulesError> {
        self.outlet(rule, registry).map(drop)
    }

    /// What keeps a rule from sending, if anything does.
    pub fn problem(&self, rule: i64) -> Option<String> {
        self.problems().get(&rule).cloned()
    }

    fn problems(&self) -> MutexGuard<'_, HashMap<i64, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet(&self, rule: &SiemRule, registry: &Registry) -> Result<Outlet, RulesError> {
        let (name, config) = (&rule.receiver, self.receiver(rule)?);
        let receiver = Receiver::new(name, config)
            .map_err(|source| RulesError::Receiver { name: name.clone(), source })?;
        let formatters = self.formatters(rule, self.stage(rule)?, registry)?;
        Ok(Outlet::new(Arc::new(receiver), formatters, Arc::clone(&self.dead_letters)).within(ROOM))
    }

    /// What transforms and formats for a rule: the stage that formats by its name.
    fn formatters(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatters, RulesError> {
        let transport = self.receiver(rule)?.transport();
        let format = rule.format.clone();
        Ok(Formatters::new(registry, transport, &rule.transform, stage, format, Some(self.hold_after))?)
    }

    /// The same, for one who formats by himself.
    pub(super) fn formatting(
        &self,
        rule: &SiemRule,
        stage: &str,
        registry: &Registry,
    ) -> Result<Formatting, RulesError> {
        Ok(self.formatters(rule, stage, registry)?.formatting())
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The name of a rule's stage.
    pub(super) fn stage<'a>(&'a self, rule: &'a SiemRule) -> Result<&'a str, RulesError> {
        let built_in = self.receiver(rule)?.stage();
        Ok(rule.stage.as_deref().unwrap_or(built_in))
    }

    fn receiver(&self, rule: &SiemRule) -> Result<&ReceiverConfig, RulesError> {
        let name = &rule.receiver;
        let missing = || {
            let known: Vec<_> = self.receivers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            let problem = format!("the service's settings name no receiver {name:?}; there is {known}");
            RuleError::field("receiver", problem).into()
        };
        self.receivers.get(name).ok_or_else(missing)
    }

    /// Sends by all rules that are enabled, as they are at the time, until `stop`.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut running: HashMap<i64, Running> = HashMap::new();
        loop {
            let wanted = self.wanted();
            for (number, running) in &running {
                let is_same = wanted.get(number).is_some_and(|(_, rule, _)| *rule == running.work.rule);
                if !is_same || !running.work.has_stage().await {
                    running.stop.send_replace(true);
                }
            }
            running.retain(|_, running| !running.task.is_finished());
            for (number, (logstore, rule, parsed)) in wanted {
                if !running.contains_key(&number)
                    && let Some(begun) = self.begin(&logstore, rule, parsed).await
                {
                    running.insert(number, begun);
                }
            }
            tokio::select! {
                () = told(&mut stop) => break,
                () = self.changed.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
        for running in running.values() {
            running.stop.send_replace(true);
        }
        let ended = futures_util::future::join_all(running.into_values().map(|running| running.task));
        let _ = timeout(FAREWELL + LOOK, ended).await;
    }

    /// The rules that are to send, by their numbers.
    fn wanted(&self) -> HashMap<i64, (Arc<Logstore>, ShippingRule, SiemRule)> {
        let catalog = self.store.catalog();
        let mut wanted = HashMap::new();
        let mut problems = self.problems();
        let mut there = HashSet::new();
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values().filter(|rule| rule.target == SIEM) {
                match SiemRule::of(&rule.name, &rule.configuration) {
                    Ok(parsed) if parsed.enabled => {
                        there.insert(rule.number());
                        wanted.insert(rule.number(), (Arc::clone(logstore), rule.clone(), parsed));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        there.insert(rule.number());
                        problems.insert(rule.number(), error.to_string());
                    }
                }
            }
        }
        problems.retain(|rule, _| there.contains(rule));
        wanted
    }

    /// Begins to send by a rule, if it can.
    async fn begin(
        self: &Arc<Self>,
        logstore: &Arc<Logstore>,
        rule: ShippingRule,
        parsed: SiemRule,
    ) -> Option<Running> {
        let (rules, sought) = (Arc::clone(self), parsed.clone());
        // Before the stage is looked up: what is changed meanwhile is seen when a task is made.
        let revision = self.store.catalog().stages().revision;
        let outlet = match on_thread(move || rules.outlet(&sought, &rules.registry)).await {
            Ok(outlet) => outlet,
            Err(error) => {
                let known = self.problems().insert(rule.number(), error.to_string());
                if known.is_none_or(|known| known != error.to_string()) {
                    tracing::warn!(rule = rule.name, %error, "the rule can't send");
                }
                return None;
            }
        };
        let stage = self.stage(&parsed).unwrap_or_default().to_owned();
        let (identity, transforms) = (outlet.formatters.identity(), outlet.formatters.transforms());
        let stages = transforms.stages().chain([identity]);
        let (transform, pinned) = (parsed.transform.clone(), transforms.pinned());
        let record = SiemRecord {
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            stages: stages.map(|stage| format!("{} {}", stage.name(), stage.version())).collect(),
            digest: identity.digest().to_owned(),
            siem: SiemRule { transform: pinned, ..parsed },
        };
        // Names and texts: there is nothing that JSON can't hold.
        let plan = serde_json::to_string(&record).unwrap_or_default();
        let work = Work {
            rules: Arc::clone(self),
            rule: rule.clone(),
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            outlet,
            stage,
            transform,
            revision: AtomicI64::new(revision),
            plan,
            open: Mutex::default(),
        };
        let (work, stop) = (Arc::new(work), watch::Sender::new(false));
        let task = tokio::spawn(Arc::clone(&work).run(stop.subscribe()));
        Some(Running { stop, work, task })
    }
}

/// A rule that sends.
struct Running {
    stop: watch::Sender<bool>,
    work: Arc<Work>,
    task: JoinHandle<()>,
}
