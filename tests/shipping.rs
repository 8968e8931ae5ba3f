//! Rules and tasks in one process, with a clock under the control of the test: when tasks are created, retried and
//! given up.

#[path = "shipping/harness.rs"]
mod harness;
#[path = "shipping/panics.rs"]
mod panics;
#[path = "shipping/partitions.rs"]
mod partitions;
#[path = "shipping/previews.rs"]
mod previews;
#[path = "shipping/stages.rs"]
mod stages;
#[path = "shipping/stream_panics.rs"]
mod stream_panics;
use crate::support;
#[path = "shipping/transforms.rs"]
mod transforms;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use logship_config::rule::{Rule, StageSpec};
use logship_config::shipping::Shipping;
use logship_logstore::{ObjectManifest, Status, Task, TaskFilter};
use serde_json::json;

use harness::*;

#[test]
fn ships_after_time_of_rule() {
    let mut test = Test::new(2);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(200 * SECOND);
    test.put(1, 3, 10);
    test.pass_and_ship(99 * SECOND);
    assert_eq!(test.tasks().len(), 0, "299 seconds");
    test.pass_and_ship(SECOND);
    let tasks = test.tasks();
    assert_eq!((tasks.len(), tasks[0].shard), (1, 0), "300 seconds, and 100 for the other shard");
    assert_eq!(tasks[0].id.created / 1000, START + 300 * SECOND);
    assert_eq!((tasks[0].status, tasks[0].manifest.as_ref().unwrap().rows), (Status::Success, 3));
    test.pass_and_ship(200 * SECOND);
    assert_eq!(test.tasks().len(), 2);
    test.assert_each_log_once();
    test.pass_and_ship(HOUR);
    assert_eq!(test.tasks().len(), 2, "no new logs, so no new tasks");
}

#[test]
fn partition_follows_task_creation_time() {
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
fn size_limits_object_bytes() {
    let mut test = Test::new(1);
    test.create(&rule());
    // 40 MB of logs, in groups that are not a divisor of the size.
    for _ in 0..57 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    let sizes: Vec<u64> = test.tasks().iter().map(|task| task.manifest.as_ref().unwrap().raw_bytes).collect();
    assert!(sizes.len() >= 7, "{sizes:?}");
    for size in &sizes {
        assert!((4_500_000..=5_000_000).contains(size), "{sizes:?}");
    }
    test.pass_and_ship(300 * SECOND);
    test.assert_each_log_once();
}

#[test]
fn splits_large_log_group() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 9_000, 1000);
    test.put(0, 1, 5_100_000);
    test.put(0, 10, 10);
    test.pass_and_ship(300 * SECOND);
    let tasks = test.tasks();
    assert!(tasks.len() >= 4, "{tasks:?}");
    assert!(tasks.iter().any(|task| task.begin.log > 0), "a task begins within the group");
    for pair in tasks.windows(2) {
        assert_eq!(pair[0].end, pair[1].begin);
    }
    let too_large = tasks.iter().filter(|task| task.manifest.as_ref().unwrap().raw_bytes > 5_000_000);
    assert_eq!(too_large.map(|task| task.manifest.as_ref().unwrap().rows).collect::<Vec<_>>(), [1]);
    test.assert_each_log_once();
}

#[test]
fn retries_failed_task_for_two_days() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    let created = test.now.load(Ordering::Relaxed);
    let mut retries = vec![];
    let mut attempts = 1;
    // Three days in steps of a minute, always without the bucket.
    for minute in 1..3 * 24 * 60 {
        test.pass_and_ship(MINUTE);
        let task = &test.tasks()[0];
        if task.attempts > attempts {
            attempts = task.attempts;
            retries.push(minute);
        }
    }
    assert_eq!(retries, [15, 45, 105, 225, 465, 945, 1905]);
    let task = test.tasks().remove(0);
    assert_eq!(
        (task.status, task.code.as_str(), task.next_attempt),
        (Status::Failed, "InvalidOssBucket", None)
    );
    assert!(task.message.contains("does not exist"), "{}", task.message);
    assert_eq!(task.id.created / 1000, created);
}

#[test]
fn manual_retry_keeps_object_key() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    let first = test.tasks().remove(0);
    test.show_bucket();
    test.pass_and_ship(MINUTE);
    assert_eq!(test.statuses(), [Status::Failed], "the retry is not due");
    test.runtime.block_on(test.store.retry_tasks(TaskFilter::default(), None)).unwrap();
    test.pass_and_ship(0);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, &task.object, task.attempts), (Status::Success, &first.object, 2));
    test.assert_each_log_once();
}

#[test]
fn failed_tasks_without_manifest_skip_no_logs() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.hide_bucket();
    // The ranges of failed tasks are estimates with a margin. The next tasks begin after them.
    for _ in 0..57 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    let failed = test.tasks().len();
    assert!(failed >= 7);
    test.show_bucket();
    let test = test.restart();
    test.pass_and_ship(15 * MINUTE);
    assert!(test.tasks().len() > failed, "new tasks have the logs that did not fit");
    assert!(test.statuses().iter().all(|status| *status == Status::Success));
    test.assert_each_log_once();
    let progress = test.store.progress(test.logstore().rule("to-lake").unwrap()).unwrap()[&0];
    assert_eq!(progress.next, progress.checkpoint);
}

#[test]
fn retry_ships_rest_of_quiet_shard() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.hide_bucket();
    // Slightly more than one object: the estimated range has a margin, and the object ends before it.
    for _ in 0..8 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    assert_eq!(test.statuses(), [Status::Failed]);
    test.show_bucket();
    test.pass_and_ship(15 * MINUTE);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Success, Status::Success], "the rest is shipped without new logs");
    test.assert_each_log_once();
}

#[test]
fn failing_destination_does_not_block_other_rules() {
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
    assert!((18..=20).contains(&dead_before), "tasks of both rules alternate: {order:?}");
    test.assert_each_log_once();
}

#[test]
fn open_tasks_keep_their_settings() {
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
fn reenabled_rule_continues_at_checkpoint() {
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
fn reports_logs_that_expired_before_shipping() {
    let mut test = Test::new(1);
    test.create(&Rule { enabled: false, ..rule() });
    test.put(0, 3, 10);
    let logstore = test.logstore();
    let shard = logstore.shard(0).unwrap();
    let begin = shard.begin();
    // The rule begins before these logs.
    test.update(&rule());
    test.engine.drain().unwrap();
    test.update(&Rule { enabled: false, ..rule() });
    test.engine.drain().unwrap();
    test.pass(25 * HOUR);
    let started = std::time::Instant::now();
    while shard.begin() == begin {
        assert!(started.elapsed().as_secs() < 30, "the logs did not expire");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    test.put(0, 2, 10);
    test.update(&rule());
    test.pass_and_ship(300 * SECOND);
    test.pass_and_ship(0);
    let tasks = test.tasks();
    assert_eq!(test.statuses(), [Status::Failed, Status::Success]);
    assert!(tasks[0].message.contains("time to live"), "{}", tasks[0].message);
    assert_eq!((tasks[0].begin.cursor, tasks[0].end.cursor, tasks[0].next_attempt), (begin, begin + 1, None));
    assert_eq!(test.shipped(), [3, 4]);
}

#[test]
fn round_robin_serves_hundreds_of_shards() {
    let mut test = Test::with(200, Shipping { workers: 1, ..Shipping::default() });
    test.create(&rule());
    // One shard has many logs, and must not delay the others.
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
    assert!(second >= 199, "the second task of the large shard precedes other shards: {second}");
    test.assert_each_log_once();
}
