//! Errors of the disk: after a failed sync the store refuses writes, and a full disk is a passing failure.

mod disk;
mod wait;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use logship_logstore::{
    Health, Limits, LogstoreSettings, NewGroup, Options, Shard, Store, StoreError, StoredGroup,
};
use rusqlite::ffi;
use serde_json::json;

use disk::{Disk, Random};
use wait::wait;

const ALL: Limits = Limits { groups: 1000, bytes: usize::MAX, end: u64::MAX };

async fn open(directory: &Path) -> Store {
    let store = Store::open(directory, Options::default()).unwrap();
    if store.catalog().project("p").is_err() {
        store.create_project("p", "").await.unwrap();
        store.create_logstore("p", "l", 1, &LogstoreSettings { ttl: 1, settings: json!({}) }).await.unwrap();
    }
    store
}

fn shard(store: &Store) -> Arc<Shard> {
    Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(0).unwrap())
}

async fn put(store: &Store, bytes: usize) -> Result<u64, StoreError> {
    let group = NewGroup { body: vec![7; bytes].into(), size: 1, logs: 1, newest: 7 };
    store.put(&shard(store), vec![group]).await
}

fn count(store: &Store) -> usize {
    let (mut count, shard) = (0, shard(store));
    let mut next = shard.begin();
    // A read ends where another generation begins: the copied files have no high-water mark.
    while shard.groups_between(next, shard.end()) > 0 {
        let visit = |_: StoredGroup<'_>| {
            count += 1;
            ControlFlow::Continue(())
        };
        next = store.read(&shard, next, ALL, visit).unwrap();
    }
    count
}

#[tokio::test]
async fn failed_sync_or_write_refuses_writes_until_restart() {
    for (sync, error) in [(true, ffi::SQLITE_IOERR_FSYNC), (false, ffi::SQLITE_IOERR_WRITE)] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::of(directory.path());
        let store = open(directory.path()).await;
        put(&store, 100).await.unwrap();
        let cause = if sync { &disk.sync_error } else { &disk.write_error };
        cause.store(error, Ordering::SeqCst);
        put(&store, 100).await.unwrap_err();
        // The disk works again, but nobody knows what it lost.
        cause.store(0, Ordering::SeqCst);
        assert!(matches!(store.health(), Health::Refusing(_)), "{:?}", store.health());
        let refused = put(&store, 100).await.unwrap_err().to_string();
        assert!(refused.contains("the disk failed"), "{refused}");
        store.create_project("q", "").await.unwrap_err();
        assert_eq!(count(&store), 1, "reads go on");
        drop(store);
        // What the disk has, it has: the restart reads it.
        let after = tempfile::tempdir().unwrap();
        disk.crash().materialize(after.path(), &mut Random::new(error as u64));
        let store = open(after.path()).await;
        assert_eq!(store.health(), Health::Good);
        put(&store, 100).await.unwrap();
        let found = count(&store);
        assert!((2..=3).contains(&found), "error {error}: {found} log groups");
    }
}

#[tokio::test]
async fn failed_sync_of_a_checkpoint_refuses_writes() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path());
    let store = open(directory.path()).await;
    disk.checkpoint_error.store(ffi::SQLITE_IOERR_FSYNC, Ordering::SeqCst);
    let mut acknowledged = 0;
    // The checkpoint follows the acknowledgment of the put that makes it due.
    while put(&store, 1 << 20).await.is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 100, "no checkpoint");
    }
    assert!(matches!(store.health(), Health::Refusing(_)));
    put(&store, 1).await.unwrap_err();
    drop(store);
    disk.checkpoint_error.store(0, Ordering::SeqCst);
    let after = tempfile::tempdir().unwrap();
    disk.crash().materialize(after.path(), &mut Random::new(1));
    assert_eq!(count(&open(after.path()).await), acknowledged);
}

#[tokio::test]
async fn full_disk_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path());
    let store = open(directory.path()).await;
    put(&store, 100).await.unwrap();
    disk.write_error.store(ffi::SQLITE_FULL, Ordering::SeqCst);
    for _ in 0..3 {
        put(&store, 100).await.unwrap_err();
        assert!(matches!(store.health(), Health::Failing(_)), "{:?}", store.health());
    }
    disk.write_error.store(0, Ordering::SeqCst);
    put(&store, 100).await.unwrap();
    wait(|| store.health() == Health::Good);
    assert_eq!(count(&store), 2);
}
