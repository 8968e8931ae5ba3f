//! Rules that partition by the time of logs: each log is in exactly one object, of its partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use logship_batch::partition::PartitionBy;
use logship_config::destination::DestinationConfig;
use logship_config::shipper_config;
use logship_delivery::engine::DeliveryEngine;
use logship_delivery::engine::work::RuleSpec;
use logship_delivery::preview::{PreviewError, SkipReason};

use super::*;

/// 2023-11-14 20:00:00 UTC.
const EIGHT: u32 = 1_699_992_000;
const HOUR_OF_LOGS: u32 = 3600;

fn hourly() -> Rule {
    Rule { partition: "ds=%Y%m%d/%H".into(), partition_by: PartitionBy::Hour, ..rule() }
}

/// Returns the time `minutes` minutes after eight o'clock.
fn minutes(minutes: u32) -> u32 {
    EIGHT + 60 * minutes
}

impl Test {
    /// Returns the partition (from the key) and the times of the logs of each object in the bucket.
    fn times(&self) -> Vec<(String, Vec<u32>)> {
        let objects = support::files(&self.bucket()).into_iter().map(|path| {
            let logs = fs::read_to_string(&path).unwrap();
            let time = |line: &str| {
                let log: serde_json::Value = serde_json::from_str(line).unwrap();
                log["__time__"].as_u64().unwrap() as u32
            };
            let key = path.strip_prefix(self.bucket()).unwrap().to_str().unwrap();
            // PARTITION_CREATED_NUMBER
            let partition = key.rsplitn(3, '_').nth(2).unwrap();
            (partition.to_owned(), logs.lines().map(time).collect())
        });
        objects.collect()
    }

    /// Asserts that each log is shipped once, and that each object has only logs of its hour.
    fn assert_each_log_in_its_hour(&self) {
        self.assert_each_log_once();
        for (partition, times) in self.times() {
            let hour = |time: &u32| {
                let time = chrono::DateTime::from_timestamp((*time).into(), 0).unwrap();
                time.format("ds=%Y%m%d/%H").to_string()
            };
            let hours: BTreeSet<String> = times.iter().map(hour).collect();
            assert_eq!(hours, BTreeSet::from([partition]));
        }
    }

    /// Executes SQL in the database, beside the store. Returns the number of changed rows.
    fn sql(&self, statement: &str) -> usize {
        let path = self.data.path().join("logstore.db");
        rusqlite::Connection::open(path).unwrap().execute(statement, []).unwrap()
    }

    fn check(&self, rule: &Rule) -> Result<(), String> {
        check(&self.engine, rule)
    }
}

fn check(engine: &DeliveryEngine, rule: &Rule) -> Result<(), String> {
    let configuration = &shipper_config::from_rule(rule);
    let spec = RuleSpec { project: "p", logstore: "l", name: &rule.name, configuration };
    engine.check(shipper_config::OSS, spec).map_err(|error| error.to_string())
}

#[test]
fn late_logs_are_in_object_of_their_hour() {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.put_at(0, &[minutes(125), minutes(61), minutes(126), minutes(0), minutes(59), minutes(127)], 10);
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_in_its_hour();
    let task = test.tasks().remove(0);
    let manifest = task.manifest.clone().unwrap();
    let objects = task.objects();
    assert_eq!(objects.iter().map(|object| object.rows).collect::<Vec<_>>(), [2, 1, 3]);
    assert_eq!((manifest.rows, &manifest.sha256, &task.object), (6, &objects[0].sha256, &objects[0].object));
    assert_eq!(manifest.stored_bytes, objects.iter().map(|object| object.stored_bytes).sum::<u64>());
    // The first key ends with the task id; the others append a number to it.
    assert_eq!(objects[0].object, format!("ds=20231114/20_{}", task.id));
    assert_eq!(objects[1].object, format!("ds=20231114/21_{}0001", task.id));
    assert_eq!(objects[2].object, format!("ds=20231114/22_{}0002", task.id));
    // A later log of the same hour is in another object.
    test.put_at(0, &[minutes(1)], 10);
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_in_its_hour();
    assert_eq!(test.times().len(), 4);
}

#[test]
fn partitions_use_time_zone_of_rule() {
    let mut test = Test::new(1);
    let zone = "Asia/Kolkata".parse().unwrap();
    test.create(&Rule { time_zone: zone, ..hourly() });
    let daily = Rule { name: "by-day".into(), partition: "day=%Y%m%d".into(), ..hourly() };
    test.create(&Rule { partition_by: PartitionBy::Day, time_zone: zone, prefix: "d".into(), ..daily });
    // Midnight in this zone is 18:30 UTC.
    let midnight = EIGHT - 90 * 60;
    test.put_at(0, &[midnight, midnight - 1, midnight + HOUR_OF_LOGS, midnight - HOUR_OF_LOGS], 10);
    test.pass_and_ship(300 * SECOND);
    let expected = [
        ("d/day=20231114", vec![midnight - 1, midnight - HOUR_OF_LOGS]),
        ("d/day=20231115", vec![midnight, midnight + HOUR_OF_LOGS]),
        ("ds=20231114/23", vec![midnight - 1, midnight - HOUR_OF_LOGS]),
        ("ds=20231115/00", vec![midnight]),
        ("ds=20231115/01", vec![midnight + HOUR_OF_LOGS]),
    ];
    let found = test.times();
    let found: Vec<_> = found.iter().map(|(of, times)| (of.as_str(), times.clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn single_partition_writes_same_object_as_unpartitioned() {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.create(&Rule { name: "plain".into(), prefix: "plain".into(), ..rule() });
    for minute in 0..60 {
        test.put_at(0, &[minutes(minute); 10], 100);
    }
    test.pass_and_ship(300 * SECOND);
    let tasks = test.tasks();
    let [partitioned, plain] = &tasks[..] else { panic!("{tasks:?}") };
    assert_eq!(partitioned.objects().len(), 1);
    assert_eq!(partitioned.objects()[0].sha256, plain.objects()[0].sha256);
}

#[test]
fn full_partition_does_not_shrink_others() {
    let mut test = Test::new(1);
    test.create(&hourly());
    // 40 MB of one hour, with some late logs.
    for group in 0..57 {
        let mut times = vec![minutes(group); 700];
        times[350] = minutes(0) - HOUR_OF_LOGS * (group % 2 + 1);
        test.put_at(0, &times, 1000);
    }
    test.pass_and_ship(0);
    let tasks = test.tasks();
    assert!(tasks.len() >= 7, "{tasks:?}");
    for task in &tasks {
        let sizes: Vec<u64> = task.objects().iter().map(|object| object.raw_bytes).collect();
        assert!(sizes.iter().all(|size| *size <= 5_000_000), "{sizes:?}");
        assert!(sizes.iter().filter(|size| **size > 100_000).count() == 1, "{sizes:?}");
        assert!(sizes.iter().any(|size| *size >= 3_500_000), "{sizes:?}");
    }
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_in_its_hour();
}

#[test]
fn splits_large_log_group_within_task() {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.put_at(0, &[minutes(0), minutes(60)].repeat(6_000), 1000);
    test.pass_and_ship(300 * SECOND);
    let task = test.tasks().remove(0);
    assert!(task.objects().len() >= 4, "{task:?}");
    assert!(task.objects().iter().all(|object| object.raw_bytes <= 5_000_000), "{task:?}");
    test.assert_each_log_in_its_hour();
}

#[test]
fn limit_of_open_partitions_loses_no_logs() {
    let mut test = Test::new(1);
    test.create(&Rule { open_partitions: 2, ..hourly() });
    // More than a chunk, so that closed partitions get logs again.
    for group in 0..12 {
        let times: Vec<u32> = (0..400).map(|log| minutes(60 * ((group + log) % 4))).collect();
        test.put_at(0, &times, 300);
    }
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_in_its_hour();
    let tasks = test.tasks();
    assert_eq!(tasks.len(), 1);
    assert!(tasks[0].objects().len() > 4, "four hours, with two open at a time: {tasks:?}");
}

#[test]
fn task_has_at_most_64_objects() {
    let mut test = Test::new(1);
    test.create(&hourly());
    let times: Vec<u32> = (0..300).map(|log| EIGHT - HOUR_OF_LOGS * (log % 150)).collect();
    test.put_at(0, &times, 10);
    test.pass_and_ship(300 * SECOND);
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_in_its_hour();
    let tasks = test.tasks();
    assert!(tasks.len() >= 3 && tasks[0].end.log > 0, "the task ends within the group: {tasks:?}");
    assert!(tasks.iter().all(|task| task.objects().len() <= 64), "{tasks:?}");
    for pair in tasks.windows(2) {
        assert_eq!(pair[0].end, pair[1].begin);
    }
}

#[test]
fn retry_writes_same_objects() {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.put_at(0, &[minutes(0), minutes(60), minutes(1)], 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    let first = test.tasks().remove(0);
    assert_eq!((first.status, first.object.as_str(), first.objects().len()), (Status::Failed, "", 0));
    test.show_bucket();
    test.pass_and_ship(HOUR);
    test.assert_each_log_in_its_hour();
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.attempts, task.objects().len()), (Status::Success, 2, 2));
}

/// Returns a task with a manifest whose second of three objects is missing, as after a crash.
fn partially_uploaded() -> (Test, Task) {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.put_at(0, &[minutes(0), minutes(60), minutes(120)].repeat(500), 50);
    test.pass_and_ship(300 * SECOND);
    let task = test.tasks().remove(0);
    assert_eq!(task.objects().len(), 3);
    fs::remove_file(test.bucket().join(&task.objects()[1].object)).unwrap();
    assert_eq!(test.sql("UPDATE task SET status = 'fail', next_try = 1"), 1);
    (test, task)
}

#[test]
fn retry_keeps_existing_objects() {
    let (test, before) = partially_uploaded();
    let path = |index: usize| test.bucket().join(&before.objects()[index].object);
    let written = |index: usize| fs::metadata(path(index)).unwrap().modified().unwrap();
    let times = [written(0), written(2)];
    test.pass_and_ship(0);
    test.assert_each_log_in_its_hour();
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.objects()), (Status::Success, before.objects()));
    assert_eq!([written(0), written(2)], times);
}

#[test]
fn foreign_object_fails_task() {
    let (test, before) = partially_uploaded();
    fs::write(test.bucket().join(&before.objects()[2].object), "somebody else's").unwrap();
    test.pass_and_ship(0);
    let task = test.tasks().remove(0);
    assert_eq!(task.status, Status::Failed);
    assert!(task.message.contains("already exists and was not overwritten"), "{}", task.message);
    assert!(!test.bucket().join(&before.objects()[1].object).exists());
}

#[test]
fn retry_rejects_different_object() {
    let (test, before) = partially_uploaded();
    let made = &before.objects()[1].sha256;
    test.sql(&format!("UPDATE task SET objects = replace(objects, '{made}', 'other')"));
    test.pass_and_ship(0);
    let task = test.tasks().remove(0);
    assert_eq!(task.status, Status::Failed);
    assert!(task.message.contains("different objects than before"), "{}", task.message);
    assert!(!test.bucket().join(&before.objects()[1].object).exists());
}

#[test]
fn transforms_precede_partitioning() {
    let mut test = Test::new(1);
    let transform = transformed(json!({ "where": { "n": { "matches": "[023]$" } } })).transform;
    test.create(&Rule { transform, ..hourly() });
    test.put_at(0, &[minutes(0), minutes(60), minutes(1), minutes(120)], 10);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.shipped(), [0, 2, 3]);
    let objects: Vec<_> = test.times().into_iter().map(|(_, times)| times).collect();
    assert_eq!(objects, [vec![minutes(0), minutes(1)], vec![minutes(120)]], "the filtered log has no object");
}

#[test]
fn filtering_all_logs_writes_no_object() {
    let mut test = Test::new(1);
    test.create(&Rule { transform: transformed(json!({ "where": { "n": "x" } })).transform, ..hourly() });
    test.put_at(0, &[minutes(0), minutes(60)], 10);
    test.pass_and_ship(300 * SECOND);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.objects().len(), task.object.as_str()), (Status::Success, 0, ""));
    assert!(test.times().is_empty());
}

#[test]
fn constant_pattern_still_has_distinct_keys() {
    let mut test = Test::new(1);
    test.create(&Rule { partition: "all".into(), ..hourly() });
    test.put_at(0, &[minutes(0), minutes(60), minutes(120)], 10);
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_once();
    assert_eq!(test.times().len(), 3);
}

#[test]
fn rejects_rules_without_partition_support() {
    let test = Test::new(1);
    assert_eq!(test.check(&hourly()), Ok(()));
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("constant-path"), stages.join("mine.wasm")).unwrap();
    let stages = logship_config::rule::Stages { renderer: Some("mine".into()), ..Default::default() };
    let serde_json::Value::Object(path) = json!({ "key": "all" }) else { unreachable!() };
    let problem = test.check(&Rule { stages: stages.clone(), path: path.clone(), ..hourly() }).unwrap_err();
    assert!(problem.contains("constant-path") && problem.contains("for two objects"), "{problem}");
    assert_eq!(
        test.check(&Rule { stages, path, ..rule() }),
        Ok(()),
        "without partitions, a task has one object"
    );

    let function = json!({ "type": "function", "url": "http://127.0.0.1:1/" });
    let function: DestinationConfig = serde_json::from_value(function).unwrap();
    let destinations = BTreeMap::from([("default".to_owned(), function)]);
    let registry = test.engine.registry().clone();
    let (settings, handle) = (Shipping::default(), test.runtime.handle().clone());
    let engine = with_destinations(&test.store, registry, destinations, settings, test.data.path(), handle);
    let by_function = Rule { bucket: String::new(), ..hourly() };
    let problem = check(&engine, &by_function).unwrap_err();
    assert!(problem.contains("partition_by") && problem.contains("one object per task"), "{problem}");
}

#[test]
fn preview_rejects_several_objects() {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.put_at(0, &[minutes(0), minutes(60)], 10);
    test.pass_and_ship(300 * SECOND);
    let error = test.preview_stage(&support::component("encode-json"), 1).unwrap_err();
    assert!(matches!(error, PreviewError::Partitioned(_)), "{error}");
    // Tasks from before the rule's update have several objects, too.
    test.update(&rule());
    let previews = test.preview_stage(&support::component("encode-json"), 1).unwrap();
    assert!(
        matches!(&previews[0].result, Err(SkipReason::Other(reason)) if reason.contains("several objects"))
    );
}

#[test]
fn open_task_keeps_partitions() {
    let mut test = Test::new(1);
    test.create(&hourly());
    test.put_at(0, &[minutes(0), minutes(60)], 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    test.update(&rule());
    test.show_bucket();
    test.now.fetch_add(HOUR, Ordering::Relaxed);
    test.engine.drain().unwrap();
    test.assert_each_log_in_its_hour();
}

#[test]
fn fused_pipeline_writes_same_partitions() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    let mut compose = support::logship();
    compose.args(["compose", "--compressor", "compress-snappy", "--output"]).arg(stages.join("fused.wasm"));
    assert!(compose.output().unwrap().status.success());
    test.create(&Rule { compression: StageSpec::named("snappy"), ..hourly() });
    let mut fused = Rule { name: "fused-one".into(), prefix: "fused".into(), ..hourly() };
    fused.stages.pipeline = Some("fused".into());
    test.create(&fused);
    test.put_at(0, &[minutes(0), minutes(60), minutes(1)], 100);
    test.pass_and_ship(300 * SECOND);
    let tasks = test.tasks();
    let hashes = |task: &Task| task.objects().into_iter().map(|object| object.sha256).collect::<Vec<_>>();
    assert_eq!((tasks.len(), hashes(&tasks[0]).len()), (2, 2));
    assert_eq!(hashes(&tasks[0]), hashes(&tasks[1]));
}
