//! What is to be done next: shards that a task is due in, and tasks that are to be tried again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use logship_logstore::{Catalog, Logstore, Place, Shard, ShippingRule, Store, StoreError, TaskId};

use super::plan::Plans;
use super::schedule::{Due, Waiting, Wanted};
use super::settings::Shipping;
use crate::function;
use crate::rule::Store as Destination;
use crate::siem::rule::SIEM;

/// Bytes of logs that are measured at one look.
const MEASURED: u64 = 1 << 30;

/// A rule and a shard, by their numbers.
pub(super) type Key = (i64, u32);

/// What a worker does next.
#[derive(Debug, Clone)]
pub(super) enum Job {
    /// Make a task in a shard.
    Begin(Box<Begin>),
    /// Try a task that is there.
    Resume(i64, TaskId),
}

/// A task to be made.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub(super) logstore: Arc<Logstore>,
    pub(super) rule: ShippingRule,
    pub(super) shard: Arc<Shard>,
    pub(super) waiting: Waiting,
    pub(super) due: Due,
}

impl Job {
    /// The number of its rule.
    pub(super) fn rule(&self) -> i64 {
        match self {
            Self::Begin(begin) => begin.rule.number(),
            Self::Resume(rule, _) => *rule,
        }
    }
}

impl Begin {
    pub(super) fn key(&self) -> Key {
        (self.rule.number(), self.shard.number)
    }
}

/// What is known of each shard of each rule, and what is due.
#[derive(Debug, Default)]
pub(super) struct Queue {
    shards: HashMap<Key, Waiting>,
    /// What was learned of a rule in any of its shards: bytes of an object for each byte of logs.
    growth: HashMap<i64, f64>,
    /// What is due, by the numbers of rules, and whose turn it is.
    lines: HashMap<i64, Line>,
    turns: VecDeque<i64>,
    /// Shards that have a job, or one in the making: each has one at a time.
    busy: HashSet<Key>,
    /// Tasks that have a job.
    tasks: HashSet<TaskId>,
    /// Rules that can't ship.
    held: HashMap<i64, Held>,
    /// Rules that send to SIEMs, whose tasks are not for here.
    fed: HashSet<i64>,
    /// Rules whose objects are made by functions.
    lanes: HashMap<i64, Lane>,
    /// What was looked at last.
    seen: Option<Arc<Catalog>>,
    rules: Vec<Looked>,
}

/// A function that rules call, and how often at one time. What waits for it is in nobody's way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    /// The destination's name.
    pub(super) name: String,
    /// Calls at one time.
    pub(super) calls: usize,
}

/// A rule that can't ship.
#[derive(Debug)]
struct Held {
    why: String,
    /// Until when it is not tried again, in Unix seconds.
    until: u64,
    /// Whether its stage fails every task: it is held until the rule or a stage changes, or a task succeeds.
    by_stage: bool,
}

/// What is due of one rule.
#[derive(Debug, Default)]
struct Line {
    /// Whom its jobs wait for; none: the stages, and a store.
    lane: Option<Lane>,
    jobs: VecDeque<Job>,
    /// Jobs that are being worked on.
    working: usize,
    /// Whether its destination did not take the last object.
    fails: bool,
}

fn push(lines: &mut HashMap<i64, Line>, turns: &mut VecDeque<i64>, rule: i64, job: Job) {
    lines.entry(rule).or_default().jobs.push_back(job);
    if !turns.contains(&rule) {
        turns.push_back(rule);
    }
}

/// A rule that ships.
#[derive(Debug)]
struct Looked {
    logstore: Arc<Logstore>,
    rule: ShippingRule,
    wanted: Wanted,
}

impl Queue {
    /// The next job: rules have their turn one after the other, and none has all workers. `workers` are for those that
    /// call no function.
    pub(super) fn pop(&mut self, workers: usize) -> Option<Job> {
        let mut working: HashMap<Option<Lane>, usize> = HashMap::new();
        for (rule, line) in &mut self.lines {
            line.lane = self.lanes.get(rule).cloned();
            if line.working > 0 {
                *working.entry(line.lane.clone()).or_default() += line.working;
            }
        }
        for _ in 0..self.turns.len() {
            let rule = self.turns.pop_front()?;
            self.turns.push_back(rule);
            let line = self.lines.entry(rule).or_default();
            let all = line.lane.as_ref().map_or(workers, |lane| lane.calls);
            let most = if line.fails { 1 } else { (all - 1).max(1) };
            if line.working < most
                && working.get(&line.lane).is_none_or(|working| *working < all)
                && let Some(job) = line.jobs.pop_front()
            {
                line.working += 1;
                return Some(job);
            }
        }
        None
    }

    /// The work on a job of a rule is over. `failed` if its destination did not take an object; none if it was not asked.
    pub(super) fn done(&mut self, rule: i64, failed: Option<bool>) {
        let line = self.lines.entry(rule).or_default();
        line.working = line.working.saturating_sub(1);
        line.fails = failed.unwrap_or(line.fails);
        if line.working == 0 && line.jobs.is_empty() && !line.fails {
            self.lines.remove(&rule);
            self.turns.retain(|turn| *turn != rule);
        }
    }

    fn push(&mut self, rule: i64, job: Job) {
        push(&mut self.lines, &mut self.turns, rule, job);
    }

    /// Looks what is due. `functions` are the destinations that are some. Blocks on the disk.
    pub(super) fn look(
        &mut self,
        store: &Store,
        settings: &Shipping,
        functions: &[Lane],
    ) -> Result<(), StoreError> {
        let catalog = store.catalog();
        if self.seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &catalog)) {
            self.look_at_rules(store, &catalog, settings, functions)?;
            self.seen = Some(catalog);
        }
        let now = store.clock();
        for (rule, task) in store.due_tasks(now)? {
            if !self.fed.contains(&rule) {
                self.resume(rule, task);
            }
        }
        let Self { shards, growth, lines, turns, busy, rules, held, .. } = self;
        for Looked { logstore, rule, wanted } in rules {
            if held.get(&rule.number()).is_some_and(|held| held.until > now / 1_000_000) {
                continue;
            }
            for shard in &logstore.shards {
                let key = (rule.number(), shard.number);
                if busy.contains(&key) {
                    continue;
                }
                let waiting =
                    shards.entry(key).or_insert_with(|| Waiting::from(Place::at(shard.begin()), None));
                if waiting.growth.is_none() {
                    waiting.growth = growth.get(&key.0).copied();
                }
                let enough = waiting.enough(*wanted);
                if waiting.measured.bytes < enough && waiting.measured.next < shard.end() {
                    let more = (enough - waiting.measured.bytes).min(MEASURED);
                    match store.measure(shard, waiting.measured.next, more) {
                        Ok(more) => waiting.add(more, now / 1_000_000),
                        // The others are not held up.
                        Err(error) => {
                            tracing::error!(shard = shard.number, %error, "can't look for logs to ship")
                        }
                    }
                }
                if let Some(reason) = waiting.due(*wanted, now / 1_000_000) {
                    busy.insert(key);
                    let begin = Begin {
                        logstore: Arc::clone(logstore),
                        rule: rule.clone(),
                        shard: Arc::clone(shard),
                        waiting: *waiting,
                        due: reason,
                    };
                    push(lines, turns, key.0, Job::Begin(Box::new(begin)));
                }
            }
        }
        Ok(())
    }

    fn look_at_rules(
        &mut self,
        store: &Store,
        catalog: &Catalog,
        settings: &Shipping,
        functions: &[Lane],
    ) -> Result<(), StoreError> {
        self.rules.clear();
        self.lanes.clear();
        let rules = catalog.logstores().flat_map(|logstore| logstore.rules.values());
        self.fed = rules.filter(|rule| rule.target == SIEM).map(ShippingRule::number).collect();
        let known: HashSet<i64> = self.shards.keys().map(|key| key.0).collect();
        for logstore in catalog.logstores() {
            // The others have feeds, and no objects.
            for rule in logstore.rules.values().filter(|rule| rule.target != SIEM) {
                let parsed = match Plans::rule(&rule.name, &rule.target, &rule.configuration) {
                    Ok(parsed) => parsed,
                    Err(error) => {
                        self.hold(rule.number(), error.to_string(), u64::MAX);
                        continue;
                    }
                };
                let before = self.seen.as_ref().and_then(|seen| rule_of(seen, logstore, &rule.name));
                let is_same = before.as_ref().is_none_or(|before| *before == *rule);
                let revision = |catalog: &Catalog| catalog.stages().revision;
                let are_stages = self.seen.as_ref().is_none_or(|seen| revision(seen) == revision(catalog));
                if !(is_same && are_stages && self.held.get(&rule.number()).is_some_and(|held| held.by_stage))
                {
                    self.held.remove(&rule.number());
                }
                let is_called = |lane: &&Lane| matches!(&parsed.destination, Destination::Named(name) if *name == lane.name);
                let lane = functions.iter().find(is_called);
                self.lanes.extend(lane.map(|lane| (rule.number(), lane.clone())));
                if !known.contains(&rule.number()) {
                    for (shard, progress) in store.progress(rule)? {
                        self.shards.insert((rule.number(), shard), Waiting::from(progress.next, None));
                    }
                }
                if parsed.enabled {
                    let seconds = parsed.time_seconds.min(settings.longest_wait_seconds);
                    let most = if lane.is_some() { function::MOST.raw as u64 } else { u64::MAX };
                    let wanted = Wanted { size: parsed.size(), seconds, most };
                    // What was learned is of the rule as it was.
                    if !is_same {
                        self.growth.remove(&rule.number());
                        let of_rule = self.shards.iter_mut().filter(|(key, _)| key.0 == rule.number());
                        of_rule.for_each(|(_, waiting)| waiting.growth = None);
                    }
                    self.rules.push(Looked { logstore: Arc::clone(logstore), rule: rule.clone(), wanted });
                }
            }
        }
        let there: HashSet<Key> = catalog
            .logstores()
            .flat_map(|logstore| {
                let shards = logstore.shards.iter().map(|shard| shard.number);
                shards.flat_map(|shard| logstore.rules.values().map(move |rule| (rule.number(), shard)))
            })
            .collect();
        self.shards.retain(|key, _| there.contains(key));
        self.held.retain(|rule, _| there.iter().any(|key| key.0 == *rule));
        Ok(())
    }

    /// A task is to be tried, unless it has a job.
    pub(super) fn resume(&mut self, rule: i64, task: TaskId) {
        if self.tasks.insert(task) {
            self.push(rule, Job::Resume(rule, task));
        }
    }

    /// A task has a job: it was just made.
    pub(super) fn made(&mut self, task: TaskId) {
        self.tasks.insert(task);
    }

    /// The job of a task is over.
    pub(super) fn ended(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// The next task of a shard begins at `next`: there can be one.
    pub(super) fn free(&mut self, key: Key, next: Place) {
        self.busy.remove(&key);
        if let Some(waiting) = self.shards.get_mut(&key) {
            *waiting = Waiting::from(next, waiting.growth);
        }
    }

    /// A task of the shard that was tried again ends at `end`, and not where the next one was to begin.
    pub(super) fn rewind(&mut self, key: Key, end: Place) {
        // A task that is being made finds out by itself.
        if !self.busy.contains(&key)
            && let Some(waiting) = self.shards.get_mut(&key)
        {
            *waiting = Waiting::from(end, waiting.growth);
        }
    }

    /// The shard is as before: nothing came of its job.
    pub(super) fn put_back(&mut self, key: Key) {
        self.busy.remove(&key);
    }

    /// Bytes of an object for each byte of logs, by what was learned of a rule.
    pub(super) fn growth(&self, rule: i64) -> f64 {
        self.growth.get(&rule).copied().unwrap_or(1.0)
    }

    /// What was learned of a rule in a shard.
    pub(super) fn learn(&mut self, key: Key, growth: f64) {
        // From a handful of logs nothing is learned, and nothing is without bound.
        let growth = growth.clamp(0.01, 100.0);
        self.growth.insert(key.0, growth);
        if let Some(waiting) = self.shards.get_mut(&key) {
            waiting.growth = Some(growth);
        }
    }

    /// A rule can't ship, and is not tried again before `until`, in Unix seconds.
    pub(super) fn hold(&mut self, rule: i64, why: String, until: u64) {
        self.held.insert(rule, Held { why, until, by_stage: false });
    }

    /// A rule's stage fails every task: it makes no more until the rule, a stage or a task that is tried again changes
    /// that.
    pub(super) fn hold_stage(&mut self, rule: i64, why: String) {
        self.held.insert(rule, Held { why, until: u64::MAX, by_stage: true });
    }

    /// A rule can.
    pub(super) fn release(&mut self, rule: i64) {
        // What a stage is held for is not over because one more task could be made.
        if self.held.get(&rule).is_some_and(|held| !held.by_stage) {
            self.held.remove(&rule);
        }
    }

    /// Whether a rule is not to be tried at this time, in Unix seconds.
    pub(super) fn is_held(&self, rule: i64, now: u64) -> bool {
        self.held.get(&rule).is_some_and(|held| held.until > now)
    }

    /// A rule's stage does no longer fail every task. Returns whether it was held for that.
    pub(super) fn release_stage(&mut self, rule: i64) -> bool {
        let is_held = self.held.get(&rule).is_some_and(|held| held.by_stage);
        if is_held {
            self.held.remove(&rule);
        }
        is_held
    }

    /// Why a rule can't ship.
    pub(super) fn why_held(&self, rule: i64) -> Option<&String> {
        self.held.get(&rule).map(|held| &held.why)
    }
}

fn rule_of(catalog: &Catalog, logstore: &Logstore, name: &str) -> Option<ShippingRule> {
    catalog.logstore(&logstore.project, &logstore.name).ok()?.rules.get(name).cloned()
}
