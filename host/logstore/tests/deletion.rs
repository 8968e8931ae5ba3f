//! Deleted logstores and projects: invisible at once, restorable for a day, and gone then.

mod wait;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logship_logstore::{
    Clock, Limits, LogPosition, LogstoreSettings, NewGroup, NewTask, Options, RuleSettings, RuleStart, Store,
    StoreError, TaskFilter, TaskId,
};
use serde_json::{Value, json};
use wait::wait;

const HOUR: u64 = 3_600_000_000;

struct Test {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
    since_boot: Arc<AtomicU64>,
    store: Store,
}

impl Test {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        let since_boot = Arc::new(AtomicU64::new(7));
        let store = open(directory.path(), &now, &since_boot);
        let test = Self { directory, now, since_boot, store };
        test.store.create_project("p", "").await.unwrap();
        test.create("l").await;
        test
    }

    async fn create(&self, name: &str) {
        let settings = LogstoreSettings { ttl: 30, settings: Value::Null };
        self.store.create_logstore("p", name, 1, &settings).await.unwrap();
    }

    fn reopen(self) -> Self {
        let Self { directory, now, since_boot, store } = self;
        drop(store);
        let store = open(directory.path(), &now, &since_boot);
        Self { directory, now, since_boot, store }
    }

    async fn put(&self, body: &str) -> Result<u64, StoreError> {
        let catalog = self.store.catalog();
        let shard = Arc::clone(catalog.logstore("p", "l")?.shard(0)?);
        let group = NewGroup { body: body.to_owned().into(), size: 1, logs: 1, newest: 7 };
        self.store.put(&shard, vec![group]).await
    }

    fn bodies(&self, name: &str) -> Vec<String> {
        let catalog = self.store.catalog();
        let shard = catalog.logstore("p", name).unwrap().shard(0).unwrap();
        let (mut bodies, all) = (vec![], Limits { groups: 100, bytes: usize::MAX, end: u64::MAX });
        let read = self.store.read(shard, shard.begin(), all, |group| {
            bodies.push(String::from_utf8(group.body.to_vec()).unwrap());
            ControlFlow::Continue(())
        });
        read.unwrap();
        bodies
    }

    fn rows(&self, table: &str) -> u64 {
        let database = rusqlite::Connection::open(self.directory.path().join("logstore.db")).unwrap();
        database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    fn advance(&self, time: u64) {
        self.now.fetch_add(time, Ordering::Relaxed);
        self.since_boot.fetch_add(time, Ordering::Relaxed);
    }
}

fn open(directory: &Path, now: &Arc<AtomicU64>, since_boot: &Arc<AtomicU64>) -> Store {
    let clock = |time: &Arc<AtomicU64>| -> Clock {
        let time = Arc::clone(time);
        Arc::new(move || time.load(Ordering::Relaxed))
    };
    let options =
        Options { clock: clock(now), since_boot: clock(since_boot), boot: "b".into(), ..Options::default() };
    Store::open(directory, options).unwrap()
}

#[tokio::test]
async fn logs_need_confirmation() {
    let test = Test::new().await;
    test.store.retire_logstore("p", "l", false).await.unwrap();
    test.create("l").await;
    test.put("a").await.unwrap();
    for error in [
        test.store.retire_logstore("p", "l", false).await.unwrap_err(),
        test.store.retire_project("p", false).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::DeletionNotConfirmed { .. }), "{error}");
    }
    assert_eq!(test.bodies("l"), ["a"]);
    test.store.retire_logstore("p", "l", true).await.unwrap();
    test.store.retire_project("p", false).await.expect("a project without logs");
}

#[tokio::test]
async fn deleted_logstore_is_invisible_and_restored_completely() {
    let test = Test::new().await;
    test.put("a").await.unwrap();
    let (stale, group) = (test.store.catalog(), NewGroup { body: "b".into(), size: 1, logs: 1, newest: 7 });
    let logstore = Arc::clone(stale.logstore("p", "l").unwrap());
    test.store.create_group(&logstore, "g", 60, false, "key").await.unwrap();
    test.store.retire_logstore("p", "l", true).await.unwrap();
    assert!(matches!(test.store.catalog().logstore("p", "l"), Err(StoreError::NoLogstore(_))));
    assert_eq!(test.store.catalog().logstores().count(), 0);
    let put = test.store.put(logstore.shard(0).unwrap(), vec![group]).await;
    assert!(matches!(put, Err(StoreError::ReadOnlyShard(0))), "a client that knows the shard");
    let test = test.reopen();
    assert_eq!(test.store.catalog().deleted_logstores()[0].name, "l");
    test.advance(23 * HOUR);
    test.store.restore_logstore("p", "l", "l").await.unwrap();
    assert_eq!(test.bodies("l"), ["a"]);
    assert!(test.store.catalog().logstore("p", "l").unwrap().groups.contains_key("g"));
    test.put("b").await.unwrap();
    let test = test.reopen();
    assert_eq!(test.bodies("l"), ["a", "b"]);
    assert!(test.store.catalog().deleted_logstores().is_empty());
}

#[tokio::test]
async fn name_is_free_at_once_and_restore_never_replaces() {
    let test = Test::new().await;
    test.put("old").await.unwrap();
    test.store.retire_logstore("p", "l", true).await.unwrap();
    test.create("l").await;
    test.put("new").await.unwrap();
    let error = test.store.restore_logstore("p", "l", "l").await.unwrap_err();
    assert!(matches!(error, StoreError::LogstoreExists(_)), "{error}");
    test.store.restore_logstore("p", "l", "older").await.unwrap();
    assert_eq!((test.bodies("l"), test.bodies("older")), (vec!["new".into()], vec!["old".into()]));
    let error = test.store.restore_logstore("p", "l", "another").await.unwrap_err();
    assert!(matches!(error, StoreError::NotDeleted { .. }), "{error}");
}

#[tokio::test]
async fn project_is_restored_with_its_logstores_only() {
    let test = Test::new().await;
    test.put("a").await.unwrap();
    test.create("gone").await;
    test.store.retire_logstore("p", "gone", true).await.unwrap();
    test.store.retire_project("p", true).await.unwrap();
    assert!(test.store.catalog().project("p").is_err());
    test.store.create_project("p", "new").await.unwrap();
    let error = test.store.restore_project("p").await.unwrap_err();
    assert!(matches!(error, StoreError::ProjectExists(_)), "{error}");
    test.store.retire_project("p", false).await.unwrap();
    let test = test.reopen();
    // The empty project was deleted last.
    test.store.restore_project("p").await.unwrap();
    test.store.delete_project("p").await.unwrap();
    test.store.restore_project("p").await.unwrap();
    assert_eq!(test.bodies("l"), ["a"]);
    let names: Vec<_> = test.store.catalog().project("p").unwrap().logstores.keys().cloned().collect();
    assert_eq!(names, ["l"]);
    test.store.restore_logstore("p", "gone", "gone").await.unwrap();
}

#[tokio::test]
async fn deletion_is_completed_after_a_day() {
    let test = Test::new().await;
    test.put("a").await.unwrap();
    test.create("kept").await;
    test.store.retire_logstore("p", "l", true).await.unwrap();
    test.store.create_project("q", "").await.unwrap();
    test.store.retire_project("q", false).await.unwrap();
    test.advance(24 * HOUR - 30_000_000);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!((test.rows("log_group"), test.rows("logstore"), test.rows("project")), (1, 2, 2));
    test.advance(60_000_000);
    wait(|| {
        test.advance(1_000_000);
        test.rows("logstore") == 1 && test.rows("project") == 1
    });
    // The next scan of retention deletes the logs.
    wait(|| {
        test.advance(11_000_000);
        test.rows("log_group") == 0 && test.rows("shard") == 1
    });
    let error = test.store.restore_logstore("p", "l", "l").await.unwrap_err();
    assert!(matches!(error, StoreError::NotDeleted { .. }), "{error}");
}

#[tokio::test]
async fn clock_that_jumps_completes_no_deletion() {
    // Below the bound, beyond it, and confirmed.
    for (step, is_confirmed) in [(20 * HOUR, false), (300 * HOUR, false), (20 * HOUR, true)] {
        let test = Test::new().await;
        test.put("a").await.unwrap();
        test.store.retire_logstore("p", "l", true).await.unwrap();
        test.advance(10 * HOUR);
        test.now.fetch_add(step, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(600));
        // The same after a restart.
        let test = test.reopen();
        std::thread::sleep(Duration::from_millis(1200));
        if is_confirmed {
            test.store.confirm_clock();
            wait(|| {
                test.advance(11_000_000);
                test.rows("logstore") == 0
            });
        } else {
            test.store.restore_logstore("p", "l", "l").await.unwrap();
            assert_eq!(test.bodies("l"), ["a"]);
        }
    }
}

#[tokio::test]
async fn deleted_logstore_ships_nothing_and_resumes_when_restored() {
    let test = Test::new().await;
    test.put("a").await.unwrap();
    let logstore = Arc::clone(test.store.catalog().logstore("p", "l").unwrap());
    let settings = RuleSettings { target: "oss".into(), configuration: json!({}) };
    test.store.create_rule(&logstore, "r-1", settings, RuleStart::Begin).await.unwrap();
    let logstore = Arc::clone(test.store.catalog().logstore("p", "l").unwrap());
    let rule = logstore.rule("r-1").unwrap().clone();
    let begin = logstore.shard(0).unwrap().begin();
    let task = |number, begin: u64| NewTask {
        id: TaskId { created: number, number: 1 },
        shard: 0,
        begin: LogPosition::at(begin),
        end: LogPosition::at(begin + 1),
        object: "o".into(),
        received: 7,
        plan: "{}".into(),
        revision: 0,
        is_sealed: false,
    };
    test.store.begin_task(&rule, task(1, begin)).await.unwrap();
    test.store.retire_logstore("p", "l", true).await.unwrap();
    assert!(test.store.running_tasks().unwrap().is_empty());
    assert!(test.store.due_tasks(u64::MAX >> 1).unwrap().is_empty());
    assert!(test.store.start_attempt(TaskId { created: 1, number: 1 }).await.is_err());
    assert!(matches!(test.store.begin_task(&rule, task(2, begin + 1)).await, Err(StoreError::NoRule(_))));
    let filter = TaskFilter { project: Some("p".into()), ..TaskFilter::default() };
    assert!(test.store.tasks(&filter, 0, 10).unwrap().0.is_empty());
    test.store.restore_logstore("p", "l", "l").await.unwrap();
    assert_eq!(test.store.running_tasks().unwrap().len(), 1);
    assert_eq!(test.store.tasks(&filter, 0, 10).unwrap().0.len(), 1);
}
