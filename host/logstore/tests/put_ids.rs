//! Identified puts: a repeated one stores nothing.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    Clock, Limits, Logstore, LogstoreSettings, NewGroup, Options, PutId, Resharding, Store, StoreError,
    StoredPut,
};
use serde_json::Value;

const DAY: u64 = 86_400_000_000;

/// A store with one logstore of one shard, and a clock that the test sets.
struct Test {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
    since_boot: Arc<AtomicU64>,
    store: Store,
}

impl Test {
    async fn new(put_ids: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        let since_boot = Arc::new(AtomicU64::new(7));
        let store = open(directory.path(), &now, &since_boot, put_ids);
        store.create_project("p", "").await.unwrap();
        let settings = LogstoreSettings { ttl: 3650, settings: Value::Null };
        store.create_logstore("p", "l", 1, &settings).await.unwrap();
        Self { directory, now, since_boot, store }
    }

    /// Opens a copy of the database and its log, as a restart after `kill -9` does.
    fn after_kill(&self, put_ids: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
        }
        let (now, since_boot) = (Arc::clone(&self.now), Arc::clone(&self.since_boot));
        let store = open(directory.path(), &now, &since_boot, put_ids);
        Self { directory, now, since_boot, store }
    }

    fn logstore(&self) -> Arc<Logstore> {
        Arc::clone(self.store.catalog().logstore("p", "l").unwrap())
    }

    async fn put(&self, id: PutId) -> Result<StoredPut, StoreError> {
        let logstore = self.logstore();
        let shard = Arc::clone(logstore.writable().next().unwrap());
        let group = NewGroup { body: "x".into(), size: 1, logs: 1, newest: 7 };
        self.store.put_once(&logstore, &shard, vec![group.clone(), group], id).await
    }

    /// Lets time pass.
    fn pass(&self, time: u64) {
        self.now.fetch_add(time, Ordering::Relaxed);
        self.since_boot.fetch_add(time, Ordering::Relaxed);
    }

    /// The number of stored log groups. Each put has two.
    fn groups(&self) -> usize {
        let mut groups = 0;
        for shard in &self.logstore().shards {
            let all = Limits { groups: 100_000, bytes: usize::MAX, end: u64::MAX };
            let count = |_: logship_logstore::StoredGroup<'_>| {
                groups += 1;
                ControlFlow::Continue(())
            };
            self.store.read(shard, shard.begin(), all, count).unwrap();
        }
        groups
    }

    fn count(&self, table: &str) -> u64 {
        let database = rusqlite::Connection::open(self.directory.path().join("logstore.db")).unwrap();
        database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn open(directory: &Path, now: &Arc<AtomicU64>, since_boot: &Arc<AtomicU64>, put_ids: u64) -> Store {
    let clock = |time: &Arc<AtomicU64>| -> Clock {
        let time = Arc::clone(time);
        Arc::new(move || time.load(Ordering::Relaxed))
    };
    let (clock, since_boot) = (clock(now), clock(since_boot));
    Store::open(directory, Options { clock, since_boot, boot: "b".into(), put_ids, ..Options::default() })
        .unwrap()
}

fn id(client: &str, sequence: i64) -> PutId {
    PutId { key: "key".into(), client: client.into(), sequence, digest: [7; 16] }
}

#[tokio::test]
async fn repeated_put_stores_nothing_and_has_same_position() {
    let test = Test::new(1000).await;
    let first = test.put(id("a", 1)).await.unwrap();
    assert!(!first.is_repeated);
    for test in [&test, &test.after_kill(1000)] {
        let again = test.put(id("a", 1)).await.unwrap();
        assert_eq!(again, StoredPut { is_repeated: true, ..first });
        assert_eq!(test.groups(), 2);
    }
    for other in [id("a", 2), id("b", 1), PutId { key: "other".into(), ..id("a", 1) }] {
        assert!(!test.put(other).await.unwrap().is_repeated);
    }
    assert_eq!(test.groups(), 8);
}

#[tokio::test]
async fn concurrent_puts_with_one_id_are_one_put() {
    let test = Test::new(1000).await;
    let results = join_all((0..16).map(|_| test.put(id("a", 1)))).await;
    assert_eq!(results.iter().filter(|put| !put.as_ref().unwrap().is_repeated).count(), 1);
    assert_eq!(test.groups(), 2);
}

/// Polls all futures together.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, result) in &mut futures {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if futures.iter().any(|(_, result)| result.is_none()) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, result)| result.take()).collect())
    })
    .await
}

#[tokio::test]
async fn rejects_other_content_under_same_id() {
    let test = Test::new(1000).await;
    test.put(id("a", 1)).await.unwrap();
    let other = PutId { digest: [8; 16], ..id("a", 1) };
    let error = test.put(other).await.unwrap_err();
    assert!(matches!(error, StoreError::PutIdConflict { .. }), "{error}");
    assert_eq!(test.groups(), 2);
    assert!(test.put(id("a", 1)).await.unwrap().is_repeated, "the first put is not affected");
}

#[tokio::test]
async fn split_between_put_and_its_repetition_stores_nothing() {
    let test = Test::new(1000).await;
    let (logstore, first) = (test.logstore(), test.put(id("a", 1)).await.unwrap());
    let closed = Arc::clone(logstore.shard(0).unwrap());
    test.store.reshard("p", "l", 0, Resharding::Split { at: None }).await.unwrap();
    let again = test.put(id("a", 1)).await.unwrap();
    assert_eq!(again, StoredPut { is_repeated: true, ..first });
    let group = NewGroup { body: "x".into(), size: 1, logs: 1, newest: 7 };
    let stale = test.store.put_once(&logstore, &closed, vec![group], id("a", 2)).await;
    assert!(matches!(stale, Err(StoreError::ReadOnlyShard(0))));
    assert!(!test.put(id("a", 2)).await.unwrap().is_repeated, "a rejected put leaves no id");
    assert_eq!(test.groups(), 4);
}

#[tokio::test]
async fn id_is_reusable_after_a_day() {
    let test = Test::new(1000).await;
    test.put(id("a", 1)).await.unwrap();
    test.put(id("b", 1)).await.unwrap();
    test.pass(DAY - 1_000_000);
    assert!(test.put(id("a", 1)).await.unwrap().is_repeated);
    test.pass(1_000_000);
    let other = PutId { digest: [8; 16], ..id("a", 1) };
    assert!(!test.put(other.clone()).await.unwrap().is_repeated);
    assert!(test.put(other).await.unwrap().is_repeated);
    test.pass(20_000_000);
    let start = std::time::Instant::now();
    while (test.count("put_id"), test.count("put_client")) != (1, 1) {
        assert!(start.elapsed().as_secs() < 30, "expired ids stay");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(!test.put(id("b", 1)).await.unwrap().is_repeated);
}

#[tokio::test]
async fn clock_that_jumps_forgets_no_id() {
    // Below the bound, and beyond it.
    for step in [DAY - 10_000_000, 300 * DAY] {
        let test = Test::new(1000).await;
        let first = test.put(id("a", 1)).await.unwrap();
        test.pass(3_600_000_000);
        test.now.fetch_add(step, Ordering::Relaxed);
        // Two idle steps.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        assert_eq!(test.put(id("a", 1)).await.unwrap(), StoredPut { is_repeated: true, ..first });
        assert_eq!((test.groups(), test.count("put_id")), (2, 1));
    }
}

#[tokio::test]
async fn flood_of_ids_is_bounded_and_affects_only_its_key() {
    let test = Test::new(1000).await;
    let honest = PutId { key: "honest".into(), ..id("a", 1) };
    test.put(honest.clone()).await.unwrap();
    let flood = (0..2500).map(|number| test.put(id(&format!("client-{number}"), 1)));
    for result in join_all(flood).await {
        result.unwrap();
    }
    assert!(test.count("put_id") <= 1001 && test.count("put_client") <= 1001, "{}", test.count("put_id"));
    assert!(test.put(honest.clone()).await.unwrap().is_repeated);
    assert!(test.put(id("client-2499", 1)).await.unwrap().is_repeated, "the newest ids are kept");
    let test = test.after_kill(1000);
    test.put(id("one-more", 1)).await.unwrap();
    assert!(test.count("put_id") <= 1001, "the limit survives a restart");
    assert!(test.put(honest).await.unwrap().is_repeated);
}

#[tokio::test]
async fn rejects_sequence_that_was_dropped() {
    let test = Test::new(1000).await;
    for result in join_all((0..1500).map(|sequence| test.put(id("a", sequence)))).await {
        result.unwrap();
    }
    assert_eq!(test.count("put_id"), 1000);
    assert!(test.put(id("a", 1499)).await.unwrap().is_repeated);
    assert!(test.put(id("a", 500)).await.unwrap().is_repeated);
    let error = test.put(id("a", 499)).await.unwrap_err();
    assert!(matches!(error, StoreError::PutIdTooOld { .. }), "{error}");
    assert_eq!(test.groups(), 3000, "a put that may be stored already is not stored");
}
