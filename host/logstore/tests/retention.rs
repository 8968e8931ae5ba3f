//! What retention does not delete: logs that a rule has not shipped, held logstores, and logs that only a wrong clock
//! makes old.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logship_logstore::{
    Clock, LogPosition, LogstoreSettings, NewGroup, NewTask, Options, RuleSettings, RuleStart, Shard, Store,
    StoreError, TaskId, Unread,
};
use serde_json::json;

const HOUR: u64 = 3_600_000_000;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_700_000_000_000_000;

/// A store with a clock that the test sets.
struct Test {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
    since_boot: Arc<AtomicU64>,
    store: Store,
}

fn open(
    directory: &Path,
    now: &Arc<AtomicU64>,
    since_boot: &Arc<AtomicU64>,
    delete_unshipped: bool,
) -> Store {
    let clock = |time: &Arc<AtomicU64>| -> Clock {
        let time = Arc::clone(time);
        Arc::new(move || time.load(Ordering::Relaxed))
    };
    let options = Options {
        clock: clock(now),
        since_boot: clock(since_boot),
        boot: "boot".into(),
        delete_unshipped,
        shipped_targets: vec!["oss"],
        ..Options::default()
    };
    Store::open(directory, options).unwrap()
}

impl Test {
    async fn new(delete_unshipped: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (now, since_boot) = (Arc::new(AtomicU64::new(START)), Arc::new(AtomicU64::new(0)));
        let store = open(directory.path(), &now, &since_boot, delete_unshipped);
        store.create_project("p", "").await.unwrap();
        let settings = LogstoreSettings { ttl: 1, settings: json!({}) };
        store.create_logstore("p", "l", 1, &settings).await.unwrap();
        Self { directory, now, since_boot, store }
    }

    /// Stops the store, and opens it again after `meanwhile`.
    fn reopen(self, meanwhile: impl FnOnce(&Self)) -> Self {
        self.store.close();
        meanwhile(&self);
        let Self { directory, now, since_boot, store } = self;
        drop(store);
        let store = open(directory.path(), &now, &since_boot, false);
        Self { directory, now, since_boot, store }
    }

    fn shard(&self) -> Arc<Shard> {
        Arc::clone(self.store.catalog().logstore("p", "l").unwrap().shard(0).unwrap())
    }

    async fn put(&self) -> u64 {
        let group = NewGroup { body: "x".into(), size: 1, logs: 1, newest: 1 };
        self.store.put(&self.shard(), vec![group]).await.unwrap()
    }

    /// Lets time pass, in steps that a clock makes.
    fn pass(&self, time: u64) {
        for _ in 0..time / HOUR {
            self.now.fetch_add(HOUR, Ordering::Relaxed);
            self.since_boot.fetch_add(HOUR, Ordering::Relaxed);
            self.store.clock();
        }
    }

    fn groups(&self) -> u64 {
        let shard = self.shard();
        shard.groups_between(shard.begin(), shard.end())
    }

    fn wait_for_groups(&self, groups: u64) {
        let begun = Instant::now();
        while self.groups() != groups {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} groups", self.groups());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for more than one scan. Returns the number of groups.
    fn groups_later(&self) -> u64 {
        std::thread::sleep(Duration::from_millis(1500));
        self.groups()
    }

    async fn rule(&self) {
        let settings = RuleSettings { target: "oss".into(), configuration: json!({}) };
        let catalog = self.store.catalog();
        let logstore = catalog.logstore("p", "l").unwrap();
        self.store.create_rule(logstore, "rule", settings, RuleStart::Begin).await.unwrap();
    }

    async fn ship(&self, begin: u64, end: u64) {
        let task = NewTask {
            id: TaskId { created: begin, number: 1 },
            shard: 0,
            begin: LogPosition::at(begin),
            end: LogPosition::at(end),
            object: "o".into(),
            received: 0,
            plan: "{}".into(),
            revision: 0,
            is_sealed: false,
        };
        let rule = self.store.catalog().logstore("p", "l").unwrap().rules["rule"].clone();
        let task = self.store.begin_task(&rule, task).await.unwrap();
        self.store.succeed_task(task.id).await.unwrap();
    }
}

#[tokio::test]
async fn logs_that_a_job_has_not_read_are_kept() {
    for delete_unshipped in [false, true] {
        let test = Test::new(delete_unshipped).await;
        test.store.create_job("p", "j", &json!({}), None).await.unwrap();
        let job = test.store.job("p", "j").unwrap().number();
        test.put().await;
        test.pass(HOUR);
        let since = test.store.clock() / 1_000_000;
        test.put().await;
        let unread = Unread { project: "p".into(), logstore: "l".into(), since };
        test.store.save_unread(vec![(job, Some(unread.clone()))]).await.unwrap();
        assert_eq!(test.store.unread().unwrap()[&job], unread);
        test.pass(3 * DAY);
        test.wait_for_groups(if delete_unshipped { 0 } else { 1 });
        if !delete_unshipped {
            assert_eq!(test.groups_later(), 1);
            test.store.delete_job("p", "j").await.unwrap();
            assert!(test.store.unread().unwrap().is_empty());
            test.pass(HOUR);
            test.wait_for_groups(0);
        }
    }
}

#[tokio::test]
async fn unshipped_logs_are_kept() {
    let test = Test::new(false).await;
    test.rule().await;
    let first = test.put().await;
    test.put().await;
    test.pass(3 * DAY);
    assert_eq!(test.groups_later(), 2);
    test.ship(first, first + 1).await;
    test.pass(HOUR);
    test.wait_for_groups(1);
    // Also when the rule is gone.
    let catalog = test.store.catalog();
    test.store.delete_rule(catalog.logstore("p", "l").unwrap(), "rule").await.unwrap();
    test.pass(HOUR);
    test.wait_for_groups(0);
}

#[tokio::test]
async fn unshipped_logs_are_deleted_if_told_to() {
    let test = Test::new(true).await;
    test.rule().await;
    test.put().await;
    test.pass(3 * DAY);
    test.wait_for_groups(0);
}

#[tokio::test]
async fn held_logstore_keeps_its_logs_and_is_not_deleted() {
    let test = Test::new(false).await;
    test.put().await;
    test.store.hold_logstore("p", "l", "case 7").await.unwrap();
    assert_eq!(test.store.catalog().logstore("p", "l").unwrap().hold.as_deref(), Some("case 7"));
    test.pass(3 * DAY);
    assert_eq!(test.groups_later(), 1);
    assert!(matches!(test.store.delete_logstore("p", "l").await, Err(StoreError::Held { .. })));
    assert!(matches!(test.store.delete_project("p").await, Err(StoreError::Held { .. })));
    assert!(matches!(test.store.hold_logstore("p", "gone", "x").await, Err(StoreError::NoLogstore(_))));
    test.store.release_logstore("p", "l").await.unwrap();
    test.pass(HOUR);
    test.wait_for_groups(0);
    test.store.delete_logstore("p", "l").await.unwrap();
}

#[tokio::test]
async fn clock_that_jumps_deletes_nothing_until_confirmed() {
    let test = Test::new(false).await;
    test.put().await;
    test.now.fetch_add(3650 * DAY, Ordering::Relaxed);
    assert_eq!(test.groups_later(), 1);
    assert!(test.store.clock_ahead().is_some());
    // Times of receipt do not run ahead.
    let position = test.put().await;
    assert!(test.store.received_at(&test.shard(), position).unwrap() < START / 1_000_000 + 60);
    // The same after a restart.
    let test = test.reopen(|_| ());
    assert!(test.store.clock_ahead().is_some());
    assert_eq!(test.groups_later(), 2);
    // Corrected: everything is as before.
    test.now.fetch_sub(3650 * DAY, Ordering::Relaxed);
    assert_eq!((test.store.clock_ahead(), test.groups_later()), (None, 2));
    let position = test.put().await;
    assert!(test.store.received_at(&test.shard(), position).unwrap() < START / 1_000_000 + 60);
    // Confirmed.
    test.now.fetch_add(3650 * DAY, Ordering::Relaxed);
    assert!(test.store.clock_ahead().is_some());
    test.store.confirm_clock();
    test.wait_for_groups(0);
}

#[tokio::test]
async fn small_steps_of_the_clock_delete_nothing_early() {
    let test = Test::new(false).await;
    test.put().await;
    test.pass(2 * HOUR);
    test.now.fetch_add(23 * HOUR, Ordering::Relaxed);
    assert_eq!((test.groups_later(), test.store.clock_ahead()), (1, None));
    test.pass(24 * HOUR);
    test.wait_for_groups(0);
}

#[tokio::test]
async fn stop_is_no_step_of_the_clock() {
    let test = Test::new(false).await;
    test.put().await;
    test.pass(HOUR);
    // The machine ran while the service was stopped for a weekend.
    let test = test.reopen(|test| {
        test.now.fetch_add(3 * DAY, Ordering::Relaxed);
        test.since_boot.fetch_add(3 * DAY, Ordering::Relaxed);
    });
    assert_eq!((test.store.clock_ahead(), test.store.clock_settles_in()), (None, None));
    test.wait_for_groups(0);
}

#[tokio::test]
async fn retention_waits_for_the_clock_after_the_machine_was_off() {
    let test = Test::new(false).await;
    test.put().await;
    test.pass(HOUR);
    let test = test.reopen(|test| {
        test.now.fetch_add(3 * DAY, Ordering::Relaxed);
        test.since_boot.store(1, Ordering::Relaxed);
    });
    assert_eq!((test.store.clock_ahead(), test.store.clock_settles_in()), (None, Some(3600)));
    // New logs have the right time at once, so they do not expire with the old ones.
    let position = test.put().await;
    let received = test.store.received_at(&test.shard(), position).unwrap();
    assert_eq!(received, test.now.load(Ordering::Relaxed) / 1_000_000);
    assert_eq!(test.groups_later(), 2);
    test.pass(2 * HOUR);
    assert_eq!(test.store.clock_settles_in(), None);
    test.wait_for_groups(1);
}
