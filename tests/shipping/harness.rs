//! A store with a Logstore, its engine, and a clock under the control of the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logship_config::destination::DestinationConfig;
use logship_config::rule::{Rule, StageSpec};
use logship_config::shipper_config;
use logship_config::shipping::Shipping;
use logship_delivery::engine::DeliveryEngine;
use logship_delivery::engine::work::BatchWork;
use logship_delivery::objects::Objects;
use logship_delivery::preview::{Candidate, PreviewError, PreviewLimits, TaskPreview, Verdict};
use logship_logstore::{
    Clock, Logstore, LogstoreSettings, NewGroup, Options, RuleSettings, RuleStart, Status, Store, Task,
    TaskFilter,
};
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits};
use logship_sls::compression::Compression;
use logship_sls::log_group::{Header, LogGroupBuilder};
use serde_json::json;
use tokio::runtime::{Handle, Runtime};

use crate::support;

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// 2023-11-14 22:13:20 UTC.
pub(crate) const START: u64 = 1_700_000_000 * SECOND;

/// A store, its engine and a clock.
pub(crate) struct Test {
    pub(crate) data: tempfile::TempDir,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<Store>,
    pub(crate) engine: DeliveryEngine,
    /// The number of logs in the store.
    pub(crate) logs: u64,
}

impl Test {
    pub(crate) fn new(shards: u32) -> Self {
        Self::with(shards, Shipping::default())
    }

    pub(crate) fn with(shards: u32, settings: Shipping) -> Self {
        let (data, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(START)));
        fs::create_dir_all(data.path().join("buckets/lake")).unwrap();
        let runtime = Runtime::new().unwrap();
        let (store, engine) = open(data.path(), &now, settings, &runtime);
        let logstore = LogstoreSettings { ttl: 1, settings: json!({}) };
        runtime.block_on(async {
            store.create_project("p", "").await.unwrap();
            store.create_logstore("p", "l", shards, &logstore).await.unwrap();
        });
        Self { data, now, runtime, store, engine, logs: 0 }
    }

    /// Replaces the engine by one whose work is made of the usual one.
    pub(crate) fn wrap_work<W: BatchWork>(&mut self, settings: Shipping, wrap: impl FnOnce(Objects) -> W) {
        let registry = self.engine.registry().clone();
        let directory = DestinationConfig::Directory { path: self.data.path().join("buckets") };
        let destinations = BTreeMap::from([("default".to_owned(), directory)]);
        let handle = self.runtime.handle().clone();
        let objects =
            Objects::new(registry.clone(), destinations, &settings, self.data.path(), handle.clone())
                .unwrap();
        let engine = DeliveryEngine::new(Arc::clone(&self.store), registry, settings, handle);
        self.engine = engine.with_batches(wrap(objects));
    }

    pub(crate) fn logstore(&self) -> Arc<Logstore> {
        Arc::clone(self.store.catalog().logstore("p", "l").unwrap())
    }

    pub(crate) fn create(&self, rule: &Rule) {
        let settings = RuleSettings { target: "oss".into(), configuration: shipper_config::from_rule(rule) };
        let logstore = self.logstore();
        let made = self.store.create_rule(&logstore, &rule.name, settings, RuleStart::Begin);
        self.runtime.block_on(made).unwrap();
    }

    pub(crate) fn update(&self, rule: &Rule) {
        let settings = RuleSettings { target: "oss".into(), configuration: shipper_config::from_rule(rule) };
        let logstore = self.logstore();
        let changed = self.store.update_rule(&logstore, &rule.name, settings);
        self.runtime.block_on(changed).unwrap();
    }

    /// Puts a log group of `logs` numbered logs, each with `bytes` bytes of filler.
    pub(crate) fn put(&mut self, shard: u32, logs: u32, bytes: usize) {
        self.put_at(shard, &vec![7; logs as usize], bytes);
    }

    /// Puts a log group with one log for each time.
    pub(crate) fn put_at(&mut self, shard: u32, times: &[u32], bytes: usize) {
        let mut group = LogGroupBuilder::new(&Header::default());
        let filler: Vec<u8> = std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(bytes).collect();
        let logs = times.len() as u32;
        for (number, &time) in (self.logs..).zip(times) {
            let mut log = group.begin_log(time, None);
            log.field(b"n", number.to_string().as_bytes());
            log.field(b"filler", &filler);
            log.end_log();
        }
        self.logs += u64::from(logs);
        let raw = group.finish();
        let body = Compression::Lz4.compress(&raw).unwrap().into();
        let group = NewGroup { body, size: raw.len() as u32, logs, newest: 7 };
        let put = self.store.clone();
        let logstore = self.logstore();
        self.runtime.block_on(put.put(logstore.shard(shard).unwrap(), vec![group])).unwrap();
    }

    pub(crate) fn pass(&self, time: u64) {
        self.now.fetch_add(time, Ordering::Relaxed);
    }

    pub(crate) fn pass_and_ship(&self, time: u64) {
        self.pass(time);
        self.engine.drain().unwrap();
    }

    /// Returns all tasks, the oldest first.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        let (mut tasks, _) = self.store.tasks(&TaskFilter::default(), 0, 10_000).unwrap();
        tasks.reverse();
        tasks
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.tasks().iter().map(|task| task.status).collect()
    }

    /// Previews a component in the rule, for its last tasks.
    pub(crate) fn preview_stage(
        &self,
        component: &Path,
        last: usize,
    ) -> Result<Vec<TaskPreview>, PreviewError> {
        let stage = self.engine.registry().compile("mine", &fs::read(component).unwrap()).unwrap();
        let limits = PreviewLimits { last, until: Instant::now() + Duration::from_secs(60) };
        let (logstore, candidate) = (self.logstore(), Candidate { stage, transform: None });
        self.engine.preview(&logstore, logstore.rule("to-lake").unwrap(), &candidate, limits)
    }

    pub(crate) fn verdicts(&self, component: &Path, last: usize) -> Vec<Verdict> {
        self.preview_stage(component, last).unwrap().iter().map(TaskPreview::verdict).collect()
    }

    /// Returns the number of stored components.
    pub(crate) fn stored_components(&self) -> usize {
        support::files(&self.data.path().join("stages/sha256")).len()
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.data.path().join("buckets/lake")
    }

    /// Renames the bucket, so that it does not exist.
    pub(crate) fn hide_bucket(&self) {
        fs::rename(self.bucket(), self.data.path().join("hidden")).unwrap();
    }

    pub(crate) fn show_bucket(&self) {
        fs::rename(self.data.path().join("hidden"), self.bucket()).unwrap();
    }

    /// Returns the sorted numbers of all logs in the JSON objects of the bucket. Asserts that each object belongs to a task.
    pub(crate) fn shipped(&self) -> Vec<u64> {
        let mut numbers = vec![];
        let mut keys: Vec<String> = vec![];
        for file in walkdir::WalkDir::new(self.bucket()).into_iter().map(Result::unwrap) {
            if file.file_type().is_dir() {
                continue;
            }
            keys.push(file.path().strip_prefix(self.bucket()).unwrap().to_str().unwrap().into());
            for line in fs::read_to_string(file.path()).unwrap().lines() {
                let log: serde_json::Value = serde_json::from_str(line).unwrap();
                numbers.push(log["n"].as_str().unwrap().parse().unwrap());
            }
        }
        keys.sort();
        let mut objects: Vec<String> = self
            .tasks()
            .into_iter()
            .filter(|task| task.status == Status::Success)
            .flat_map(|task| task.objects())
            .map(|object| object.object)
            .collect();
        objects.sort();
        assert_eq!(keys, objects, "the bucket has the objects of all successful tasks and no others");
        numbers.sort_unstable();
        numbers
    }

    pub(crate) fn assert_each_log_once(&self) {
        assert_eq!(self.shipped(), (0..self.logs).collect::<Vec<_>>());
    }

    /// Opens the same data again, as after a restart.
    pub(crate) fn restart(self) -> Self {
        let Self { data, now, runtime, store, engine, logs } = self;
        drop((store, engine));
        let (store, engine) = open(data.path(), &now, Shipping::default(), &runtime);
        Self { data, now, runtime, store, engine, logs }
    }
}

pub(crate) fn open(
    data: &Path,
    now: &Arc<AtomicU64>,
    settings: Shipping,
    runtime: &Runtime,
) -> (Arc<Store>, DeliveryEngine) {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    let (uptime, since_boot) = (Arc::clone(&clock), Arc::clone(&clock));
    // Tests let days pass at once, while the machine runs.
    let clock_step = 30 * 86_400_000_000;
    let options = Options { uptime, since_boot, clock, clock_step, ..Options::default() };
    let store = Arc::new(Store::open(data, options).unwrap());
    let registry = Registry::with_folder(engine(), data.join("stages"));
    let directory = DestinationConfig::Directory { path: data.join("buckets") };
    let destinations = BTreeMap::from([("default".to_owned(), directory)]);
    let handle = runtime.handle().clone();
    let engine = with_destinations(&store, registry, destinations, settings, data, handle);
    (store, engine)
}

/// Creates a delivery engine for rules that write objects.
pub(crate) fn with_destinations(
    store: &Arc<Store>,
    registry: Registry,
    destinations: BTreeMap<String, DestinationConfig>,
    settings: Shipping,
    data: &Path,
    runtime: Handle,
) -> DeliveryEngine {
    let objects = Objects::new(registry.clone(), destinations, &settings, data, runtime.clone()).unwrap();
    DeliveryEngine::new(Arc::clone(store), registry, settings, runtime).with_batches(objects)
}

pub(crate) fn engine() -> Engine {
    Engine::new(Limits { instances: 40, ..Limits::default() }, Some(&support::cache())).unwrap()
}

pub(crate) fn rule() -> Rule {
    Rule { name: "to-lake".into(), bucket: "lake".into(), size_mb: 5, ..Rule::default() }
}

/// Returns a rule with the transformer `transform-fields`.
pub(crate) fn transformed(settings: serde_json::Value) -> Rule {
    let serde_json::Value::Object(settings) = settings else { panic!("{settings}") };
    Rule { transform: vec![StageSpec { name: "fields".into(), settings }], ..rule() }
}
