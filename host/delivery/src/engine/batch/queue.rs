//! The scheduler's queue: shards with a due task, and tasks to retry.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use logship_logstore::{Catalog, LogPosition, Logstore, Shard, ShippingRule, StoreError, TaskId};

use crate::engine::DeliveryEngine;
use crate::engine::batch::schedule::{BatchPolicy, Due, ShardBacklog};

/// Bytes of logs measured per shard in one scan.
const MAX_SCAN_BYTES: u64 = 1 << 30;

/// A rule number and a shard number.
pub(super) type ShardKey = (i64, u32);

/// A unit of work for a worker.
#[derive(Debug, Clone)]
pub(super) enum Job {
    /// Creates a task in a shard and runs it.
    Create(Box<DueTask>),
    /// Retries an existing task.
    Retry(i64, TaskId),
}

/// A task to create.
#[derive(Debug, Clone)]
pub(super) struct DueTask {
    pub(super) logstore: Arc<Logstore>,
    pub(super) rule: ShippingRule,
    pub(super) shard: Arc<Shard>,
    pub(super) backlog: ShardBacklog,
    pub(super) due: Due,
}

impl Job {
    /// The number of the job's rule.
    pub(super) fn rule(&self) -> i64 {
        match self {
            Self::Create(due_task) => due_task.rule.number(),
            Self::Retry(rule, _) => *rule,
        }
    }
}

impl DueTask {
    pub(super) fn key(&self) -> ShardKey {
        (self.rule.number(), self.shard.number)
    }
}

/// The backlog of each shard of each rule, and the queued jobs.
#[derive(Debug, Default)]
pub(in crate::engine) struct Queue {
    shards: HashMap<ShardKey, ShardBacklog>,
    /// Expansion ratio (object bytes / log bytes) of each rule, as last measured in any of its shards.
    expansion_ratio: HashMap<i64, f64>,
    /// Queued jobs, by rule number.
    queues: HashMap<i64, RuleQueue>,
    /// Rules with a queue, in round-robin order.
    round_robin: VecDeque<i64>,
    /// Shards with a queued or running job. Each shard has one job at a time.
    busy: HashSet<ShardKey>,
    /// Tasks with a queued or running job.
    tasks: HashSet<TaskId>,
    /// Rules with streams. Their tasks are not queued here.
    streams: HashSet<i64>,
    /// Concurrency limits of rules that have one, by rule number.
    limits_by_rule: HashMap<i64, ConcurrencyLimit>,
    /// The catalog of the last scan.
    catalog: Option<Arc<Catalog>>,
    rules: Vec<ActiveRule>,
}

/// The concurrency limit of a destination. Jobs that wait for it don't block other rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConcurrencyLimit {
    /// The name of the destination.
    pub destination: String,
    /// Concurrent calls.
    pub calls: usize,
}

/// The queued jobs of one rule.
#[derive(Debug, Default)]
struct RuleQueue {
    /// The destination's concurrency limit; `None` if this process makes the output.
    limit: Option<ConcurrencyLimit>,
    jobs: VecDeque<Job>,
    /// Running jobs.
    running: usize,
    /// True if the last attempt failed at the destination or in a stage.
    is_failing: bool,
}

fn push(queues: &mut HashMap<i64, RuleQueue>, round_robin: &mut VecDeque<i64>, rule: i64, job: Job) {
    queues.entry(rule).or_default().jobs.push_back(job);
    if !round_robin.contains(&rule) {
        round_robin.push_back(rule);
    }
}

/// An enabled rule.
#[derive(Debug)]
struct ActiveRule {
    logstore: Arc<Logstore>,
    rule: ShippingRule,
    policy: BatchPolicy,
}

impl Queue {
    /// Removes the next job, in round-robin order over the rules. No rule gets all workers. `workers` is the
    /// concurrency limit of rules whose destination has none.
    pub(super) fn pop(&mut self, workers: usize) -> Option<Job> {
        let mut running: HashMap<Option<ConcurrencyLimit>, usize> = HashMap::new();
        for (rule, queue) in &mut self.queues {
            queue.limit = self.limits_by_rule.get(rule).cloned();
            if queue.running > 0 {
                *running.entry(queue.limit.clone()).or_default() += queue.running;
            }
        }
        for _ in 0..self.round_robin.len() {
            let rule = self.round_robin.pop_front()?;
            self.round_robin.push_back(rule);
            let queue = self.queues.entry(rule).or_default();
            let all = queue.limit.as_ref().map_or(workers, |limit| limit.calls);
            let max_running = if queue.is_failing { 1 } else { (all - 1).max(1) };
            if queue.running < max_running
                && running.get(&queue.limit).is_none_or(|running| *running < all)
                && let Some(job) = queue.jobs.pop_front()
            {
                queue.running += 1;
                return Some(job);
            }
        }
        None
    }

    /// Marks a job of a rule as finished. `failed` tells if its destination failed; `None` if it was not called.
    pub(super) fn finish(&mut self, rule: i64, failed: Option<bool>) {
        let queue = self.queues.entry(rule).or_default();
        queue.running = queue.running.saturating_sub(1);
        queue.is_failing = failed.unwrap_or(queue.is_failing);
        if queue.running == 0 && queue.jobs.is_empty() && !queue.is_failing {
            self.queues.remove(&rule);
            self.round_robin.retain(|other| *other != rule);
        }
    }

    fn push(&mut self, rule: i64, job: Job) {
        push(&mut self.queues, &mut self.round_robin, rule, job);
    }

    /// Scans all shards for due tasks, and queues them. Blocks on the disk.
    pub(super) fn scan(&mut self, engine: &DeliveryEngine) -> Result<(), StoreError> {
        let store = &engine.store;
        let catalog = store.catalog();
        if self.catalog.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &catalog)) {
            self.refresh_rules(engine, &catalog)?;
            self.catalog = Some(catalog);
        }
        let now = store.clock();
        for (rule, task) in store.due_tasks(now)? {
            if !self.streams.contains(&rule) && !engine.waits(rule) {
                self.retry(rule, task);
            }
        }
        let Self { shards, expansion_ratio, queues, round_robin, busy, rules, .. } = self;
        for ActiveRule { logstore, rule, policy } in rules {
            if engine.waits(rule.number()) || engine.pauses.is_paused(rule.number(), now / 1_000_000) {
                continue;
            }
            for shard in &logstore.shards {
                let key = (rule.number(), shard.number);
                if busy.contains(&key) {
                    continue;
                }
                let backlog = shards
                    .entry(key)
                    .or_insert_with(|| ShardBacklog::from(LogPosition::at(shard.begin()), None));
                if backlog.expansion_ratio.is_none() {
                    backlog.expansion_ratio = expansion_ratio.get(&key.0).copied();
                }
                let target_bytes = backlog.target_bytes(*policy);
                if backlog.measured.bytes < target_bytes
                    && shard.groups_between(backlog.measured.next, shard.end()) > 0
                {
                    let more = (target_bytes - backlog.measured.bytes).min(MAX_SCAN_BYTES);
                    match store.backlog(shard, backlog.measured.next, more) {
                        Ok(more) => backlog.add(more, now / 1_000_000),
                        // The other shards go on.
                        Err(error) => {
                            tracing::error!(shard = shard.number, %error, "can't scan for logs to ship")
                        }
                    }
                }
                if let Some(reason) = backlog.due(*policy, now / 1_000_000) {
                    busy.insert(key);
                    let due_task = DueTask {
                        logstore: Arc::clone(logstore),
                        rule: rule.clone(),
                        shard: Arc::clone(shard),
                        backlog: *backlog,
                        due: reason,
                    };
                    push(queues, round_robin, key.0, Job::Create(Box::new(due_task)));
                }
            }
        }
        Ok(())
    }

    fn refresh_rules(&mut self, engine: &DeliveryEngine, catalog: &Catalog) -> Result<(), StoreError> {
        self.rules.clear();
        self.limits_by_rule.clear();
        self.streams.clear();
        let known: HashSet<i64> = self.shards.keys().map(|key| key.0).collect();
        let revision = |catalog: &Catalog| catalog.stages().revision;
        let is_same_revision = self.catalog.as_ref().is_none_or(|seen| revision(seen) == revision(catalog));
        for logstore in catalog.logstores() {
            for rule in logstore.rules.values() {
                if engine.is_stream(rule) {
                    self.streams.insert(rule.number());
                } else {
                    self.refresh_rule(engine, logstore, rule, is_same_revision, &known)?;
                }
            }
        }
        let existing: HashSet<ShardKey> = catalog
            .logstores()
            .flat_map(|logstore| {
                let shards = logstore.shards.iter().map(|shard| shard.number);
                shards.flat_map(|shard| logstore.rules.values().map(move |rule| (rule.number(), shard)))
            })
            .collect();
        self.shards.retain(|key, _| existing.contains(key));
        engine.pauses.retain(|rule| existing.iter().any(|key| key.0 == rule));
        Ok(())
    }

    /// Refreshes a rule. `known` are the rules whose shards are known.
    fn refresh_rule(
        &mut self,
        engine: &DeliveryEngine,
        logstore: &Arc<Logstore>,
        rule: &ShippingRule,
        is_same_revision: bool,
        known: &HashSet<i64>,
    ) -> Result<(), StoreError> {
        let number = rule.number();
        let limits = match engine.batch_work(rule).and_then(|work| work.limits(rule)) {
            Ok(limits) => limits,
            Err(error) => {
                engine.pauses.pause(number, error.to_string(), u64::MAX);
                return Ok(());
            }
        };
        let before = self.catalog.as_ref().and_then(|seen| rule_of(seen, logstore, &rule.name));
        let is_same = before.as_ref().is_none_or(|before| *before == *rule);
        engine.pauses.clear(number, is_same && is_same_revision);
        self.limits_by_rule.extend(limits.concurrency.map(|limit| (number, limit)));
        if !known.contains(&number) {
            for (shard, progress) in engine.store.progress(rule)? {
                self.shards.insert((number, shard), ShardBacklog::from(progress.next, None));
            }
        }
        if limits.enabled {
            let mut policy = limits.policy;
            policy.seconds = policy.seconds.min(engine.settings.longest_wait_seconds);
            // The ratio was measured with the previous version of the rule.
            if !is_same {
                self.expansion_ratio.remove(&number);
                let of_rule = self.shards.iter_mut().filter(|(key, _)| key.0 == number);
                of_rule.for_each(|(_, backlog)| backlog.expansion_ratio = None);
            }
            self.rules.push(ActiveRule { logstore: Arc::clone(logstore), rule: rule.clone(), policy });
        }
        Ok(())
    }

    /// Queues a retry of a task, unless it has a job already.
    pub(in crate::engine) fn retry(&mut self, rule: i64, task: TaskId) {
        if self.tasks.insert(task) {
            self.push(rule, Job::Retry(rule, task));
        }
    }

    /// Marks a new task as having a job.
    pub(super) fn mark_task(&mut self, task: TaskId) {
        self.tasks.insert(task);
    }

    /// Marks the job of a task as finished.
    pub(super) fn unmark_task(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// Frees a shard for its next task, which begins at `next`.
    pub(super) fn advance(&mut self, key: ShardKey, next: LogPosition) {
        self.busy.remove(&key);
        if let Some(backlog) = self.shards.get_mut(&key) {
            *backlog = ShardBacklog::from(next, backlog.expansion_ratio);
        }
    }

    /// Moves the next task of a shard back to `end`, after a retried task covered less than its range.
    pub(super) fn rewind(&mut self, key: ShardKey, end: LogPosition) {
        // A running job detects the moved checkpoint itself (`StoreError::NextTaskMoved`).
        if !self.busy.contains(&key)
            && let Some(backlog) = self.shards.get_mut(&key)
        {
            *backlog = ShardBacklog::from(end, backlog.expansion_ratio);
        }
    }

    /// Frees a shard whose job created no task.
    pub(super) fn release_shard(&mut self, key: ShardKey) {
        self.busy.remove(&key);
    }

    /// Expansion ratio of a rule: object bytes / log bytes; 1 if unknown.
    pub(super) fn expansion_ratio(&self, rule: i64) -> f64 {
        self.expansion_ratio.get(&rule).copied().unwrap_or(1.0)
    }

    /// Records the expansion ratio measured in a shard.
    pub(super) fn set_expansion_ratio(&mut self, key: ShardKey, expansion_ratio: f64) {
        // A bound against outliers.
        let expansion_ratio = expansion_ratio.clamp(0.01, 100.0);
        self.expansion_ratio.insert(key.0, expansion_ratio);
        if let Some(backlog) = self.shards.get_mut(&key) {
            backlog.expansion_ratio = Some(expansion_ratio);
        }
    }
}

fn rule_of(catalog: &Catalog, logstore: &Logstore, name: &str) -> Option<ShippingRule> {
    catalog.logstore(&logstore.project, &logstore.name).ok()?.rules.get(name).cloned()
}
