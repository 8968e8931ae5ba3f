//! Rules and tasks in one process, by a clock that the test sets: when tasks are made, tried again and given up.

#[path = "shipping/harness.rs"]
mod harness;
#[path = "shipping/partitions.rs"]
mod partitions;
#[path = "shipping/stages.rs"]
mod stages;
mod support;
#[path = "shipping/transforms.rs"]
mod transforms;
#[path = "shipping/trials.rs"]
mod trials;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use logship::rule::{StageSpec, Rule};
use logship::shipping::settings::Shipping;
use logship_logstore::{ObjectManifest, Status, Task, TaskFilter};
use serde_json::json;

use harness::*;

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
    assert_eq!((tasks[0].status, tasks[0].manifest.as_ref().unwrap().rows), (Status::Success, 3));
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
    let sizes: Vec<u64> = test.tasks().iter().map(|task| task.manifest.as_ref().unwrap().raw_bytes).collect();
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
    let too_large = tasks.iter().filter(|task| task.manifest.as_ref().unwrap().raw_bytes > 5_000_000);
    assert_eq!(too_large.map(|task| task.manifest.as_ref().unwrap().rows).collect::<Vec<_>>(), [1]);
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
    assert_eq!((task.status, task.code.as_str(), task.next_attempt), (Status::Failed, "InvalidOssBucket", None));
    assert!(task.message.contains("does not exist"), "{}", task.message);
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
    test.shipper.drain().unwrap();
    test.update(&Rule { enabled: false, ..rule() });
    test.shipper.drain().unwrap();
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
    assert_eq!((tasks[0].begin.cursor, tasks[0].end.cursor, tasks[0].next_attempt), (begin, begin + 1, None));
    assert_eq!(test.shipped(), [3, 4]);
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
