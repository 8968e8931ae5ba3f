//! Rules and tasks in one process, by a clock that the test sets: when tasks are made, tried again and given up.

#[path = "shipping/partitions.rs"]
mod partitions;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logship::destination::DestinationConfig;
use logship::engine::{Engine, Limits};
use logship::registry::Registry;
use logship::rule::{Choice, Rule};
use logship::shipping::Shipper;
use logship::shipping::settings::Shipping;
use logship::stage::Kind;
use logship::target;
use logship::trial::{Candidate, Extent, TrialError, Tried, Untried, Verdict};
use logship_logstore::{
    Clock, Logstore, LogstoreSettings, NewGroup, Options, RuleSettings, RuleStart, Seal, Status, Store, Task,
    TaskFilter,
};
use logship_sls::compression::Compression;
use logship_sls::log_group::{Header, LogGroupBuilder};
use serde_json::json;
use tokio::runtime::Runtime;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// 2023-11-14 22:13:20 UTC.
const START: u64 = 1_700_000_000 * SECOND;

/// A store, what ships it, and a clock.
struct Test {
    data: tempfile::TempDir,
    now: Arc<AtomicU64>,
    runtime: Runtime,
    store: Arc<Store>,
    shipper: Shipper,
    /// Logs that were put.
    logs: u64,
}

impl Test {
    fn new(shards: u32) -> Self {
        Self::with(shards, Shipping::default())
    }

    fn with(shards: u32, settings: Shipping) -> Self {
        let (data, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(START)));
        fs::create_dir_all(data.path().join("buckets/lake")).unwrap();
        let runtime = Runtime::new().unwrap();
        let (store, shipper) = open(data.path(), &now, settings, &runtime);
        let logstore = LogstoreSettings { ttl: 1, settings: json!({}) };
        runtime.block_on(async {
            store.create_project("p", "").await.unwrap();
            store.create_logstore("p", "l", shards, &logstore).await.unwrap();
        });
        Self { data, now, runtime, store, shipper, logs: 0 }
    }

    fn logstore(&self) -> Arc<Logstore> {
        Arc::clone(self.store.catalog().logstore("p", "l").unwrap())
    }

    fn create(&self, rule: &Rule) {
        let settings = RuleSettings { target: "oss".into(), configuration: target::configuration(rule) };
        let logstore = self.logstore();
        let made = self.store.create_rule(&logstore, &rule.name, settings, RuleStart::Begin);
        self.runtime.block_on(made).unwrap();
    }

    fn update(&self, rule: &Rule) {
        let settings = RuleSettings { target: "oss".into(), configuration: target::configuration(rule) };
        let logstore = self.logstore();
        let changed = self.store.update_rule(&logstore, &rule.name, settings);
        self.runtime.block_on(changed).unwrap();
    }

    /// Puts a log group of so many logs, numbered on, each with so many bytes besides.
    fn put(&mut self, shard: u32, logs: u32, bytes: usize) {
        self.put_at(shard, &vec![7; logs as usize], bytes);
    }

    /// The same, with a log of each of these times.
    fn put_at(&mut self, shard: u32, times: &[u32], bytes: usize) {
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

    fn pass(&self, time: u64) {
        self.now.fetch_add(time, Ordering::Relaxed);
    }

    fn pass_and_ship(&self, time: u64) {
        self.pass(time);
        self.shipper.catch_up().unwrap();
    }

    /// The tasks, the oldest first.
    fn tasks(&self) -> Vec<Task> {
        let (mut tasks, _) = self.store.tasks(&TaskFilter::default(), 0, 10_000).unwrap();
        tasks.reverse();
        tasks
    }

    fn statuses(&self) -> Vec<Status> {
        self.tasks().iter().map(|task| task.status).collect()
    }

    /// Tries a component in the rule, on so many tasks.
    fn try_stage(&self, component: &Path, last: usize) -> Result<Vec<Tried>, TrialError> {
        let stage = self.shipper.registry().examine("mine", &fs::read(component).unwrap()).unwrap();
        let extent = Extent { last, until: Instant::now() + Duration::from_secs(60) };
        let (logstore, candidate) = (self.logstore(), Candidate { stage, transform: None });
        self.shipper.try_stage(&logstore, logstore.rule("to-lake").unwrap(), &candidate, extent)
    }

    fn verdicts(&self, component: &Path, last: usize) -> Vec<Verdict> {
        self.try_stage(component, last).unwrap().iter().map(Tried::verdict).collect()
    }

    /// The components that are kept.
    fn kept(&self) -> usize {
        support::files(&self.data.path().join("stages/sha256")).len()
    }

    fn bucket(&self) -> PathBuf {
        self.data.path().join("buckets/lake")
    }

    /// The bucket is as if it had never been.
    fn hide_bucket(&self) {
        fs::rename(self.bucket(), self.data.path().join("hidden")).unwrap();
    }

    fn show_bucket(&self) {
        fs::rename(self.data.path().join("hidden"), self.bucket()).unwrap();
    }

    /// The numbers of all logs in JSON objects of the bucket, sorted. Each object belongs to a task.
    fn shipped(&self) -> Vec<u64> {
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
        assert_eq!(keys, objects, "the objects of each task that succeeded, and no other");
        numbers.sort_unstable();
        numbers
    }

    fn assert_each_log_once(&self) {
        assert_eq!(self.shipped(), (0..self.logs).collect::<Vec<_>>());
    }

    /// The same data, as the next process finds it.
    fn restart(self) -> Self {
        let Self { data, now, runtime, store, shipper, logs } = self;
        drop((store, shipper));
        let (store, shipper) = open(data.path(), &now, Shipping::default(), &runtime);
        Self { data, now, runtime, store, shipper, logs }
    }
}

fn open(data: &Path, now: &Arc<AtomicU64>, settings: Shipping, runtime: &Runtime) -> (Arc<Store>, Shipper) {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    let options = Options { uptime: Arc::clone(&clock), clock, ..Options::default() };
    let store = Arc::new(Store::open(data, options).unwrap());
    let registry = Registry::within(engine(), data.join("stages"));
    let directory = DestinationConfig::Directory { path: data.join("buckets") };
    let destinations = BTreeMap::from([("default".to_owned(), directory)]);
    let handle = runtime.handle().clone();
    let shipper = Shipper::new(Arc::clone(&store), registry, destinations, settings, data, handle).unwrap();
    (store, shipper)
}

fn engine() -> Engine {
    Engine::new(Limits { instances: 40, ..Limits::default() }, Some(&support::cache())).unwrap()
}

fn rule() -> Rule {
    Rule { name: "to-lake".into(), bucket: "lake".into(), size_mb: 5, ..Rule::default() }
}

#[test]
fn logs_wait_for_the_rules_time_and_no_longer() {
    let mut test = Test::new(2);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(200 * SECOND);
    test.put(1, 3, 10);
    test.pass_and_ship(99 * SECOND);
    assert_eq!(test.tasks().len(), 0, "299 seconds");
    test.pass_and_ship(SECOND);
    let tasks = test.tasks();
    assert_eq!((tasks.len(), tasks[0].shard), (1, 0), "300 seconds, and the other shard has 100");
    assert_eq!(tasks[0].id.created / 1000, START + 300 * SECOND);
    assert_eq!((tasks[0].status, tasks[0].seal.as_ref().unwrap().rows), (Status::Success, 3));
    test.pass_and_ship(200 * SECOND);
    assert_eq!(test.tasks().len(), 2);
    test.assert_each_log_once();
    test.pass_and_ship(HOUR);
    assert_eq!(test.tasks().len(), 2, "nothing came, so nothing is shipped");
}

#[test]
fn an_object_is_in_the_directory_of_the_time_that_its_task_was_made() {
    let mut test = Test::new(1);
    // Five minutes before midnight in Shanghai.
    test.now.store(1_484_927_700 * SECOND, Ordering::Relaxed);
    let partition = "ds=%Y%m%d/%H%M%s".to_owned();
    test.create(&Rule { partition, time_zone: "+08:00".parse().unwrap(), prefix: "x".into(), ..rule() });
    test.put(0, 1, 10);
    test.pass_and_ship(300 * SECOND);
    let task = &test.tasks()[0];
    assert_eq!(task.object, format!("x/ds=20170121/000000_{}", task.id));
    assert!(test.bucket().join(&task.object).exists());
}

#[test]
fn objects_are_of_the_rules_size_as_they_are_and_not_as_the_logs_are() {
    let mut test = Test::new(1);
    test.create(&rule());
    // 40 MB of logs in groups that do not divide the size.
    for _ in 0..57 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    let sizes: Vec<u64> = test.tasks().iter().map(|task| task.seal.as_ref().unwrap().raw_bytes).collect();
    assert!(sizes.len() >= 7, "{sizes:?}");
    for size in &sizes {
        assert!((4_500_000..=5_000_000).contains(size), "{sizes:?}");
    }
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_once();
}

#[test]
fn a_log_group_larger_than_an_object_becomes_several() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 9_000, 1000);
    test.put(0, 1, 5_100_000);
    test.put(0, 10, 10);
    test.pass_and_ship(300 * SECOND);
    let tasks = test.tasks();
    assert!(tasks.len() >= 4, "{tasks:?}");
    assert!(tasks.iter().any(|task| task.begin.log > 0), "one begins within the group");
    for pair in tasks.windows(2) {
        assert_eq!(pair[0].end, pair[1].begin);
    }
    let too_large = tasks.iter().filter(|task| task.seal.as_ref().unwrap().raw_bytes > 5_000_000);
    assert_eq!(too_large.map(|task| task.seal.as_ref().unwrap().rows).collect::<Vec<_>>(), [1]);
    test.assert_each_log_once();
}

#[test]
fn a_task_that_fails_is_tried_after_15_30_and_60_minutes_and_so_on_for_two_days() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    let created = test.now.load(Ordering::Relaxed);
    let mut tries = vec![];
    let mut attempts = 1;
    // Minute by minute for three days; the bucket is gone all the time.
    for minute in 1..3 * 24 * 60 {
        test.pass_and_ship(MINUTE);
        let task = &test.tasks()[0];
        if task.attempts > attempts {
            attempts = task.attempts;
            tries.push(minute);
        }
    }
    assert_eq!(tries, [15, 45, 105, 225, 465, 945, 1905]);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.code.as_str(), task.next_try), (Status::Failed, "InvalidOssBucket", None));
    assert!(task.message.contains("there is no folder"), "{}", task.message);
    assert_eq!(task.id.created / 1000, created);
}

#[test]
fn a_retry_by_hand_is_immediate_and_makes_the_object_of_the_first_try() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    let first = test.tasks().remove(0);
    test.show_bucket();
    test.pass_and_ship(MINUTE);
    assert_eq!(test.statuses(), [Status::Failed], "its time has not come");
    test.runtime.block_on(test.store.retry_tasks(TaskFilter::default(), None)).unwrap();
    test.pass_and_ship(0);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, &task.object, task.attempts), (Status::Success, &first.object, 2));
    test.assert_each_log_once();
}

#[test]
fn tasks_that_failed_before_their_end_was_known_leave_nothing_out() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.hide_bucket();
    // Their ranges are guessed with a margin, and others begin behind them.
    for _ in 0..57 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    let failed = test.tasks().len();
    assert!(failed >= 7);
    test.show_bucket();
    let test = test.restart();
    test.pass_and_ship(15 * MINUTE);
    assert!(test.tasks().len() > failed, "what did not fit is in tasks of its own");
    assert!(test.statuses().iter().all(|status| *status == Status::Success));
    test.assert_each_log_once();
    let progress = test.store.progress(test.logstore().rule("to-lake").unwrap()).unwrap()[&0];
    assert_eq!(progress.next, progress.checkpoint);
}

#[test]
fn a_quiet_shard_is_shipped_to_its_end_after_a_retry() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.hide_bucket();
    // Enough for one object and a little more: the range is guessed with a margin, and the object is cut before its end.
    for _ in 0..8 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    assert_eq!(test.statuses(), [Status::Failed]);
    test.show_bucket();
    test.pass_and_ship(15 * MINUTE);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Success, Status::Success], "nobody put anything meanwhile");
    test.assert_each_log_once();
}

#[test]
fn a_rule_whose_destination_fails_does_not_hold_up_another() {
    let mut test = Test::with(20, Shipping { workers: 1, ..Shipping::default() });
    test.create(&Rule { name: "dead-one".into(), bucket: "nothing".into(), ..rule() });
    test.create(&rule());
    for shard in 0..20 {
        test.put(shard, 1, 10);
    }
    test.pass_and_ship(300 * SECOND);
    let order: Vec<bool> = test.tasks().iter().map(|task| task.rule == "dead-one").collect();
    let last_good = order.iter().rposition(|dead| !dead).unwrap();
    let dead_before = order[..last_good].iter().filter(|dead| **dead).count();
    assert!((18..=20).contains(&dead_before), "they have their turn one after the other: {order:?}");
    test.assert_each_log_once();
}

#[test]
fn open_tasks_keep_what_they_were_made_with() {
    let mut test = Test::new(1);
    test.create(&Rule { prefix: "old".into(), ..rule() });
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    let csv = serde_json::from_value(json!({ "type": "csv", "columns": ["n"] })).unwrap();
    test.update(&Rule { prefix: "new".into(), format: csv, ..rule() });
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.show_bucket();
    test.pass_and_ship(HOUR);
    let tasks = test.tasks();
    assert!(test.statuses().iter().all(|status| *status == Status::Success), "{tasks:?}");
    assert!(tasks[0].object.starts_with("old/"));
    assert!(tasks[1].object.starts_with("new/") && tasks[1].object.ends_with(".csv"));
    assert_eq!(fs::read_to_string(test.bucket().join(&tasks[0].object)).unwrap().lines().count(), 3);
    assert_eq!(fs::read_to_string(test.bucket().join(&tasks[1].object)).unwrap(), "3\n4\n5\n");
}

#[test]
fn a_rule_that_is_switched_off_goes_on_where_it_was() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.update(&Rule { enabled: false, ..rule() });
    test.put(0, 3, 10);
    test.pass_and_ship(HOUR);
    assert_eq!(test.tasks().len(), 1);
    test.update(&rule());
    test.pass_and_ship(0);
    assert_eq!(test.tasks().len(), 2);
    test.assert_each_log_once();
}

#[test]
fn logs_that_were_deleted_before_they_were_shipped_are_told_of() {
    let mut test = Test::new(1);
    test.create(&Rule { enabled: false, ..rule() });
    test.put(0, 3, 10);
    let logstore = test.logstore();
    let shard = logstore.shard(0).unwrap();
    let begin = shard.begin();
    // The rule had begun with them.
    test.update(&rule());
    test.shipper.catch_up().unwrap();
    test.update(&Rule { enabled: false, ..rule() });
    test.shipper.catch_up().unwrap();
    test.pass(25 * HOUR);
    let waited = std::time::Instant::now();
    while shard.begin() == begin {
        assert!(waited.elapsed().as_secs() < 30, "the time to live is over");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    test.put(0, 2, 10);
    test.update(&rule());
    test.pass_and_ship(300 * SECOND);
    test.pass_and_ship(0);
    let tasks = test.tasks();
    assert_eq!(test.statuses(), [Status::Failed, Status::Success]);
    assert!(tasks[0].message.contains("time to live"), "{}", tasks[0].message);
    assert_eq!((tasks[0].begin.cursor, tasks[0].end.cursor, tasks[0].next_try), (begin, begin + 1, None));
    assert_eq!(test.shipped(), [3, 4]);
}

#[test]
fn a_stage_that_traps_fails_its_task_with_the_reason_and_no_other() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("misbehaving-stage"), stages.join("mine.wasm")).unwrap();
    let mut bad = Rule { name: "bad-one".into(), prefix: "bad".into(), ..rule() };
    bad.stages.encoder = Some("mine".into());
    bad.format = serde_json::from_value(json!({ "type": "mine", "act": "trap" })).unwrap();
    test.create(&bad);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let (failed, good): (Vec<_>, Vec<_>) = test.tasks().into_iter().partition(|task| task.rule == "bad-one");
    assert_eq!((failed.len(), failed[0].status, good[0].status), (1, Status::Failed, Status::Success));
    assert_eq!(failed[0].code, "InternalServerError");
    assert!(failed[0].message.contains("sha256:"), "{}", failed[0].message);
    test.assert_each_log_once();
}

#[test]
fn a_task_is_done_by_the_stages_that_it_was_made_with_though_another_took_their_name() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("encode-logfmt"), stages.join("mine.wasm")).unwrap();
    let mut rule = Rule { format: Choice::named("logfmt"), ..rule() };
    rule.stages.encoder = Some("mine".into());
    test.create(&rule);
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    fs::remove_file(stages.join("mine.wasm")).unwrap();
    test.show_bucket();
    let test = test.restart();
    test.pass_and_ship(15 * MINUTE);
    assert_eq!(test.statuses(), [Status::Success]);
    let object = fs::read_to_string(test.bucket().join(&test.tasks()[0].object)).unwrap();
    assert!(object.lines().count() == 3 && object.contains("n=2"), "{object}");
    let mut test = test;
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.tasks().len(), 1, "the next one has no such stage");
    let why = test.shipper.why_held(test.logstore().rule("to-lake").unwrap().number()).unwrap();
    assert!(why.contains("mine"), "{why}");
}

#[test]
fn a_fused_pipeline_makes_the_objects_that_its_stages_make_and_tasks_keep_it() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    let mut compose = support::logship();
    compose.args(["compose", "--compressor", "compress-snappy", "--output"]).arg(stages.join("fused.wasm"));
    assert!(compose.output().unwrap().status.success());
    let driven = Rule { compression: Choice::named("snappy"), ..rule() };
    let mut fused = Rule { name: "fused-one".into(), prefix: "fused".into(), ..rule() };
    fused.stages.pipeline = Some("fused".into());
    test.create(&driven);
    test.create(&fused);
    test.put(0, 30, 100);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed, Status::Failed]);
    fs::remove_file(stages.join("fused.wasm")).unwrap();
    test.show_bucket();
    test.pass_and_ship(15 * MINUTE);
    assert_eq!(test.statuses(), [Status::Success, Status::Success]);
    let objects: Vec<_> =
        test.tasks().iter().map(|task| fs::read(test.bucket().join(&task.object)).unwrap()).collect();
    assert!(test.tasks().iter().all(|task| task.object.ends_with(".snappy")));
    assert!(!objects[0].is_empty() && objects[0] == objects[1]);
}

#[test]
fn hundreds_of_shards_have_their_turn() {
    let mut test = Test::with(200, Shipping { workers: 1, ..Shipping::default() });
    test.create(&rule());
    // One has much, and it is not before the others.
    for _ in 0..30 {
        test.put(0, 700, 1000);
    }
    for shard in 1..200 {
        test.put(shard, 1, 10);
    }
    test.pass_and_ship(300 * SECOND);
    test.pass_and_ship(300 * SECOND);
    let order: Vec<u32> = test.tasks().iter().map(|task| task.shard).collect();
    let second = order.iter().enumerate().filter(|(_, shard)| **shard == 0).nth(1).unwrap().0;
    assert!(second >= 199, "all others are before the second of the large one: {second}");
    test.assert_each_log_once();
}

/// A rule whose logs go through `transform-fields`.
fn transformed(settings: serde_json::Value) -> Rule {
    let serde_json::Value::Object(settings) = settings else { panic!("{settings}") };
    Rule { transform: vec![Choice { name: "fields".into(), settings }], ..rule() }
}

#[test]
fn logs_that_are_left_out_are_in_no_object_and_the_others_fill_it() {
    let mut test = Test::new(1);
    test.create(&transformed(json!({ "where": { "n": { "matches": "[02468]$" } }, "set": { "more": "x" } })));
    // 40 MB of logs, of which half is left.
    for _ in 0..57 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    let seals: Vec<_> = test.tasks().iter().map(|task| task.seal.clone().unwrap()).collect();
    assert!(seals.len() >= 3, "{seals:?}");
    for seal in &seals {
        assert!((4_500_000..=5_000_000).contains(&seal.raw_bytes), "{seals:?}");
        assert_eq!(seal.raw_bytes, seal.stored_bytes);
    }
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.shipped(), (0..test.logs).step_by(2).collect::<Vec<_>>());
    let rows: u64 = test.tasks().iter().map(|task| task.seal.as_ref().unwrap().rows).sum();
    assert_eq!(rows, test.logs / 2);
}

#[test]
fn a_task_of_which_no_log_is_left_succeeds_without_an_object() {
    let mut test = Test::new(1);
    test.create(&transformed(json!({ "where": { "n": "3" } })));
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.seal.clone()), (Status::Success, Some(Seal::default())), "{task:?}");
    assert!(test.shipped().is_empty());
    assert!(!test.bucket().join(&task.object).exists());
    let progress = |test: &Test| test.store.progress(test.logstore().rule("to-lake").unwrap()).unwrap()[&0];
    assert_eq!(progress(&test).checkpoint, task.end);
    // Neither does the bucket have to be there, for nothing is asked of it.
    test.hide_bucket();
    let mut test = test.restart();
    test.put(0, 2, 10);
    test.show_bucket();
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Success, Status::Success]);
    assert_eq!(test.shipped(), [3]);
}

#[test]
fn a_task_keeps_the_transforms_that_it_was_made_with() {
    let mut test = Test::new(1);
    test.create(&transformed(json!({ "drop": ["filler"], "hash": ["__topic__"], "set": { "by": "old" } })));
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed]);
    test.update(&transformed(json!({ "set": { "by": "new" } })));
    test.show_bucket();
    let test = test.restart();
    test.pass_and_ship(15 * MINUTE);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.attempts), (Status::Success, 2), "{task:?}");
    let object = fs::read_to_string(test.bucket().join(&task.object)).unwrap();
    assert_eq!(
        object.lines().next().unwrap(),
        r#"{"__time__":7,"__topic__":"","__source__":"","n":"0","by":"old"}"#
    );
}

#[test]
fn all_that_a_transformer_makes_of_a_log_is_in_one_object() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("misbehaving-transform"), stages.join("mine.wasm")).unwrap();
    let split = serde_json::from_value(json!({ "type": "mine", "act": "split" })).unwrap();
    test.create(&Rule { transform: vec![split, Choice::named("fields")], ..rule() });
    test.put(0, 9_000, 1000);
    // Two of it are too large for any object, and are in one of their own.
    test.put(0, 1, 3_000_000);
    test.put(0, 10, 10);
    test.pass_and_ship(300 * SECOND);
    let twice: Vec<u64> = (0..test.logs).flat_map(|log| [log, log]).collect();
    assert_eq!(test.shipped(), twice);
    for task in test.tasks() {
        let object = fs::read_to_string(test.bucket().join(&task.object)).unwrap();
        let lines: Vec<&str> = object.lines().collect();
        let number =
            |line: &str| line.split(r#""n":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert!(lines.chunks(2).all(|two| number(two[0]) == number(two[1])), "{}", task.object);
        assert!(task.seal.unwrap().raw_bytes <= 5_000_000 || lines.len() == 2);
    }
}

#[test]
fn a_trial_makes_the_objects_that_the_tasks_made_and_writes_none() {
    let mut test = Test::new(2);
    test.create(&rule());
    let encode_json = support::component("encode-json");
    assert!(matches!(test.try_stage(&encode_json, 20), Err(TrialError::NoTasks(_))));
    for shard in 0..2 {
        // Several chunks, and objects that end within a log group.
        for _ in 0..3 {
            test.put(shard, 3_000, 1000);
        }
    }
    test.pass_and_ship(300 * SECOND);
    let (before, tasks) = (support::files(test.data.path()), test.tasks());
    assert!(tasks.len() >= 4 && tasks.iter().any(|task| task.end.log > 0), "{tasks:?}");
    let tried = test.try_stage(&encode_json, 100).unwrap();
    assert_eq!(tried.len(), tasks.len());
    for tried in &tried {
        let compared = tried.result.as_ref().unwrap();
        assert_eq!((tried.verdict(), compared.reproduced), (Verdict::Same, Some(true)), "{tried:?}");
        let seal = tasks.iter().find(|task| task.id == tried.task).unwrap().seal.clone().unwrap();
        let made = compared.new.as_ref().unwrap().made.clone().unwrap();
        assert_eq!(
            (made.rows, made.raw_bytes, made.stored_bytes, made.sha256),
            (seal.rows, seal.raw_bytes, seal.stored_bytes, seal.sha256)
        );
    }
    assert_eq!(test.verdicts(&support::example("encode-logfmt"), 2), [Verdict::Different; 2]);
    assert_eq!(test.tasks().len(), tasks.len());
    assert_eq!(support::files(test.data.path()), before);
}

#[test]
fn a_trial_tells_of_tasks_whose_logs_are_no_more() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.pass(26 * HOUR);
    let shard = Arc::clone(test.logstore().shard(0).unwrap());
    let (begin, waited) = (shard.begin(), Instant::now());
    while shard.begin() == begin {
        assert!(waited.elapsed().as_secs() < 30, "the time to live is over");
        std::thread::sleep(Duration::from_millis(20));
    }
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let tried = test.try_stage(&support::example("encode-logfmt"), 20).unwrap();
    assert_eq!(tried.iter().map(Tried::verdict).collect::<Vec<_>>(), [Verdict::Different, Verdict::Untried]);
    assert!(matches!(tried[1].result, Err(Untried::Expired { .. })), "{tried:?}");
    // And of those that no time was left for.
    let extent = Extent { last: 20, until: Instant::now() };
    let stage = test.shipper.registry().stage(None, "encode-json").unwrap();
    let (logstore, candidate) = (test.logstore(), Candidate { stage, transform: None });
    let tried = test.shipper.try_stage(&logstore, logstore.rule("to-lake").unwrap(), &candidate, extent);
    assert!(tried.unwrap().iter().all(|tried| matches!(tried.result, Err(Untried::NoTime))));
}

#[test]
fn calls_of_stages_are_counted_and_so_is_why_they_fail() {
    let mut test = Test::new(1);
    let engine = test.shipper.registry().engine().clone();
    let failing = serde_json::from_value(json!({ "type": "none", "act": "trap" })).unwrap();
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("misbehaving-stage"), stages.join("mine.wasm")).unwrap();
    let own = logship::rule::Stages { encoder: Some("mine".into()), ..Default::default() };
    test.create(&Rule { format: failing, stages: own, ..rule() });
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed]);
    let stage = test.shipper.registry().stage(None, "mine").unwrap();
    let tallied = engine.tallied(stage.identity().digest(), Kind::Encoder).unwrap();
    let failures: Vec<_> = tallied
        .failures()
        .map(|(cause, count)| (cause.as_str(), count))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(failures, [("trap", 1)]);
    assert!(tallied.calls > 1 && tallied.seconds > 0.0 && tallied.memory >= 1 << 16, "{tallied:?}");
    assert_eq!(engine.tallied(stage.identity().digest(), Kind::Renderer), None);
}

#[test]
fn a_component_is_kept_as_long_as_a_task_needs_it_and_then_deleted() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("encode-logfmt"), stages.join("mine.wasm")).unwrap();
    let own = logship::rule::Stages { encoder: Some("mine".into()), ..Default::default() };
    test.create(&Rule { stages: own, ..rule() });
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let digest = test.shipper.registry().stage(None, "mine").unwrap().identity().digest().to_owned();
    let file = stages.join(format!("sha256/{digest}.wasm"));
    let forget = |test: &Test| {
        let now = test.now.load(Ordering::Relaxed);
        test.runtime.block_on(test.store.forget_tasks(now, now)).unwrap();
    };
    // The rule names another one, and the component no name.
    test.update(&rule());
    fs::remove_file(stages.join("mine.wasm")).unwrap();
    let mut test = test.restart();
    test.shipper.tidy_stages();
    assert!(file.exists(), "the task has it");
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.shipper.tidy_stages();
    assert!(file.exists(), "the task before has it");
    test.pass(SECOND);
    forget(&test);
    test.shipper.tidy_stages();
    assert!(!file.exists(), "nothing needs it");
    assert!(test.kept() > 0, "the others are the rule's");
}
