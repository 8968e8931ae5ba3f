//! The API of the store, also across restarts.

mod wait;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    Clock, Limits, Logstore, LogstoreSettings, NewGroup, Options, Resharding, Shard, Store, StoreError,
};
use serde_json::json;
use wait::wait;

const DAY: u64 = 86_400_000_000;
const START: u64 = 1_700_000_000_000_000;

/// A store with a clock that the test sets.
struct Test {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
    store: Store,
}

impl Test {
    async fn new() -> Self {
        let (directory, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(START)));
        let store = open(directory.path(), &now);
        let test = Self { directory, now, store };
        test.store.create_project("p", "").await.unwrap();
        test.create("l", 2).await;
        test
    }

    async fn create(&self, name: &str, shards: u32) {
        let settings = LogstoreSettings { ttl: 1, settings: json!({ "mode": "standard" }) };
        self.store.create_logstore("p", name, shards, &settings).await.unwrap();
    }

    fn reopen(mut self) -> Self {
        self.store.close();
        let other_directory = tempfile::tempdir().unwrap();
        // Release the lock before it is acquired again.
        drop(std::mem::replace(&mut self.store, open(other_directory.path(), &self.now)));
        self.store = open(self.directory.path(), &self.now);
        self
    }

    fn advance(&self, time: u64) {
        self.now.fetch_add(time, Ordering::Relaxed);
    }

    fn logstore(&self) -> Arc<Logstore> {
        Arc::clone(self.store.catalog().logstore("p", "l").unwrap())
    }

    fn shard(&self, number: u32) -> Arc<Shard> {
        Arc::clone(self.logstore().shard(number).unwrap())
    }

    async fn put(&self, shard: u32, body: &str) -> Result<u64, StoreError> {
        self.store.put(&self.shard(shard), vec![group(body)]).await
    }

    fn bodies(&self, shard: u32, from: u64, limits: Limits) -> (Vec<String>, u64) {
        let mut bodies = vec![];
        let next = self.store.read(&self.shard(shard), from, limits, |group| {
            bodies.push(String::from_utf8(group.body.to_vec()).unwrap());
            ControlFlow::Continue(())
        });
        (bodies, next.unwrap())
    }
}

const ALL: Limits = Limits { groups: 1000, bytes: usize::MAX, end: u64::MAX };

fn open(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    // The tests let days pass at once.
    let (uptime, since_boot) = (Arc::clone(&clock), Arc::clone(&clock));
    let options = Options { clock_step: u64::MAX >> 2, uptime, since_boot, clock, ..Options::default() };
    Store::open(directory, options).unwrap()
}

fn group(body: &str) -> NewGroup {
    NewGroup { body: body.to_owned().into(), size: 10, logs: 1, newest: 7 }
}

#[tokio::test]
async fn positions_are_consecutive_across_restarts() {
    let test = Test::new().await;
    let begin = test.shard(0).begin();
    assert_eq!(begin, test.shard(0).end());
    for (index, body) in (0..).zip(["a", "b", "c"]) {
        assert_eq!(test.put(0, body).await.unwrap(), begin + index);
    }
    let test = test.reopen();
    assert_eq!(test.put(0, "d").await.unwrap(), begin + 3);
    assert_eq!(test.bodies(0, begin, ALL), (["a", "b", "c", "d"].map(String::from).to_vec(), begin + 4));
    assert_eq!(test.bodies(1, test.shard(1).begin(), ALL).0, Vec::<String>::new());
}

#[tokio::test]
async fn read_respects_limits_and_end() {
    let test = Test::new().await;
    let begin = test.shard(0).begin();
    for body in ["a", "b", "c"] {
        test.put(0, body).await.unwrap();
    }
    assert_eq!(test.bodies(0, begin, Limits { groups: 2, ..ALL }).1, begin + 2);
    assert_eq!(test.bodies(0, begin, Limits { bytes: 11, ..ALL }).1, begin + 2);
    assert_eq!(test.bodies(0, begin, Limits { bytes: 1, ..ALL }).1, begin + 1, "at least one");
    assert_eq!(test.bodies(0, begin + 1, Limits { end: begin + 2, ..ALL }), (vec!["b".into()], begin + 2));
    assert_eq!(test.bodies(0, begin + 2, Limits { end: begin + 2, ..ALL }), (vec![], begin + 2));
    assert_eq!(test.bodies(0, begin + 3, Limits { end: begin + 2, ..ALL }), (vec![], begin + 2));
    assert_eq!(test.bodies(0, begin + 3, ALL), (vec![], begin + 3));
    let beyond = test.store.read(&test.shard(0), begin + 4, ALL, |_| ControlFlow::Continue(()));
    assert!(matches!(beyond, Err(StoreError::NoCursor { .. })));
}

#[tokio::test]
async fn finds_positions_by_time_of_receipt() {
    let test = Test::new().await;
    let begin = test.shard(0).begin();
    for body in ["a", "b", "c"] {
        test.put(0, body).await.unwrap();
        test.advance(10_000_000);
    }
    let seconds = START / 1_000_000;
    let shard = test.shard(0);
    let at = |time| test.store.position_at(&shard, time).unwrap() - begin;
    assert_eq!(
        [0, seconds, seconds + 1, seconds + 10, seconds + 11, seconds + 21].map(at),
        [0, 0, 1, 1, 2, 3]
    );
    assert_eq!(test.store.received_at(&shard, begin + 1).unwrap(), seconds + 10);
    assert_eq!(
        test.store.received_at(&shard, begin + 3).unwrap(),
        seconds + 30,
        "the end has the current time"
    );
    assert!(matches!(test.store.received_at(&shard, begin - 1), Err(StoreError::NoCursor { .. })));
}

#[tokio::test]
async fn retention_never_reuses_positions() {
    let test = Test::new().await;
    let begin = test.shard(0).begin();
    for _ in 0..1500 {
        test.put(0, "old").await.unwrap();
    }
    test.advance(2 * DAY);
    test.put(0, "new").await.unwrap();
    wait(|| test.shard(0).begin() == begin + 1500);
    assert_eq!(
        test.bodies(0, begin, ALL),
        (vec!["new".into()], begin + 1501),
        "a deleted position reads from the oldest group"
    );
    test.advance(2 * DAY);
    wait(|| test.shard(0).begin() == begin + 1501);
    let test = test.reopen();
    assert_eq!((test.shard(0).begin(), test.shard(0).end()), (begin + 1501, begin + 1501));
    assert_eq!(test.put(0, "next").await.unwrap(), begin + 1501);
}

#[tokio::test]
async fn recreated_logstore_has_new_positions_and_no_old_logs() {
    let test = Test::new().await;
    test.put(0, "old").await.unwrap();
    let (old, end) = (test.shard(0), test.shard(0).end());
    test.store.delete_logstore("p", "l").await.unwrap();
    assert!(matches!(test.store.catalog().logstore("p", "l"), Err(StoreError::NoLogstore(_))));
    assert!(matches!(test.store.put(&old, vec![group("late")]).await, Err(StoreError::ReadOnlyShard(0))));
    test.advance(1_000_000);
    test.create("l", 1).await;
    assert!(test.shard(0).begin() > end);
    assert_eq!(test.bodies(0, 0, ALL).0, Vec::<String>::new());
    test.advance(DAY);
    let rows = || {
        let connection = rusqlite::Connection::open(test.directory.path().join("logstore.db")).unwrap();
        let count =
            |table| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        (count("log_group").unwrap(), count("shard").unwrap())
    };
    wait(|| rows() == (0, 1));
}

#[tokio::test]
async fn shards_split_and_merge() {
    let test = Test::new().await;
    let split = Resharding::Split { at: None };
    assert_eq!(test.store.reshard("p", "l", 0, split).await.unwrap(), [0, 2, 3]);
    assert!(matches!(test.put(0, "a").await, Err(StoreError::ReadOnlyShard(0))));
    assert!(matches!(test.store.reshard("p", "l", 0, split).await, Err(StoreError::ReadOnlyShard(0))));
    assert_eq!(test.store.reshard("p", "l", 3, Resharding::Merge).await.unwrap(), [3, 1, 4]);
    let last = test.store.reshard("p", "l", 4, Resharding::Merge).await;
    assert!(matches!(last, Err(StoreError::NoAdjacentShard(4))));
    let test = test.reopen();
    let shards: Vec<_> = test
        .logstore()
        .shards
        .iter()
        .map(|shard| (shard.number, shard.writable, shard.parents.clone()))
        .collect();
    let parents = |numbers: &[u32]| numbers.to_vec();
    assert_eq!(
        shards,
        [
            (0, false, parents(&[])),
            (1, false, parents(&[])),
            (2, true, parents(&[0])),
            (3, false, parents(&[0])),
            (4, true, parents(&[3, 1])),
        ]
    );
    let keys: Vec<_> =
        test.logstore().writable().map(|shard| shard.keys.to_string()[..2].to_owned()).collect();
    assert_eq!(keys, ["00", "40"]);
}

#[tokio::test]
async fn ordered_group_reads_parents_before_children() {
    let test = Test::new().await;
    test.put(0, "a").await.unwrap();
    test.store.reshard("p", "l", 0, Resharding::Split { at: None }).await.unwrap();
    test.store.create_group(&test.logstore(), "g", 60, true, "key").await.unwrap();
    let logstore = test.logstore();
    let heartbeat = |reported: &'static [u32]| test.store.heartbeat(&logstore, "g", "c", reported);
    assert_eq!(heartbeat(&[]).await.unwrap(), [0, 1]);
    let end = test.shard(0).end();
    test.store.save_checkpoint(&logstore, "g", 0, end, "c", true).await.unwrap();
    assert_eq!(heartbeat(&[0, 1]).await.unwrap(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn restart_keeps_owners_and_checkpoints() {
    let test = Test::new().await;
    let position = test.put(1, "a").await.unwrap() + 1;
    test.store.create_group(&test.logstore(), "g", 60, false, "key").await.unwrap();
    assert_eq!(test.store.heartbeat(&test.logstore(), "g", "a", &[]).await.unwrap(), [0, 1]);
    test.store.save_checkpoint(&test.logstore(), "g", 1, position, "a", false).await.unwrap();
    let test = test.reopen();
    let logstore = test.logstore();
    assert_eq!(test.store.heartbeat(&logstore, "g", "b", &[]).await.unwrap(), Vec::<u32>::new());
    let saved = &test.store.checkpoints(&logstore, "g", None).unwrap();
    assert_eq!((saved[0].position, saved[1].position), (None, Some(position)));
    assert_eq!((saved[1].consumer.as_str(), saved[1].updated), ("a", START));
    let unknown = test.store.save_checkpoint(&logstore, "g", 1, position, "x", false).await;
    assert!(matches!(unknown, Err(StoreError::NoConsumer(_))));
    let idle = test.store.save_checkpoint(&logstore, "g", 1, position, "b", false).await;
    assert!(matches!(idle, Err(StoreError::NotOwner { shard: 1, .. })));
    let future = test.store.save_checkpoint(&logstore, "g", 1, position + 1, "a", true).await;
    assert!(matches!(future, Err(StoreError::NoCursor { .. })));
    test.advance(61_000_000);
    assert_eq!(test.store.heartbeat(&logstore, "g", "b", &[]).await.unwrap(), [0, 1], "consumer a timed out");
}

#[tokio::test]
async fn lag_counts_unread_logs() {
    let test = Test::new().await;
    test.store.create_group(&test.logstore(), "g", 60, false, "key").await.unwrap();
    for newest in [100, 110, 130] {
        let group = NewGroup { newest, ..group("a") };
        test.store.put(&test.shard(0), vec![group]).await.unwrap();
    }
    let logstore = test.logstore();
    let lag = || {
        let status = test.store.group_status(&logstore, "g").unwrap();
        (status[0].unread_groups, status[0].lag_seconds, status[1].unread_groups, status[1].lag_seconds)
    };
    assert_eq!(lag(), (3, 30, 0, 0));
    test.store.save_checkpoint(&logstore, "g", 0, test.shard(0).begin() + 2, "", true).await.unwrap();
    assert_eq!(lag(), (1, 20, 0, 0), "the newest read log has time 110");
}

#[tokio::test]
async fn rejects_group_over_quota() {
    let test = Test::new().await;
    for number in 0..10 {
        test.store.create_group(&test.logstore(), &format!("g{number}"), 60, false, "key").await.unwrap();
    }
    let eleventh = test.store.create_group(&test.logstore(), "g10", 60, false, "key").await;
    assert!(matches!(eleventh, Err(StoreError::GroupQuota(10))));
    let again = test.store.create_group(&test.logstore(), "g9", 60, false, "key").await;
    assert!(matches!(again, Err(StoreError::GroupExists(_))));
    assert_eq!(test.logstore().groups.len(), 10, "the rejected group left nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn put_wakes_waiting_readers() {
    let test = Test::new().await;
    let shard = test.shard(0);
    let end = shard.end();
    let waiting = tokio::spawn(async move { shard.wait_for(end).await });
    test.put(0, "a").await.unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn rejects_locked_directory_and_foreign_files() {
    let test = Test::new().await;
    let again = Store::open(test.directory.path(), Options::default());
    assert!(matches!(again, Err(StoreError::Locked(_))), "{again:?}");
    let foreign = tempfile::tempdir().unwrap();
    let file = foreign.path().join("logstore.db");
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    let refused = Store::open(foreign.path(), Options::default());
    assert!(matches!(refused, Err(StoreError::UnsupportedFile { .. })), "{refused:?}");
}
