//! Loss of power at any moment under identified puts: after it, their repetition stores each log once.

mod disk;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    Limits, LogstoreSettings, NewGroup, Options, PutId, Store, StoreError, StoredGroup, StoredPut,
};
use serde_json::Value;

use disk::{Disk, Random};

const PUTS: u64 = 12;
/// The operations of the disk under the puts, or some more.
const OPERATIONS: u64 = 140;

/// The number of groups of a put. It is the same for a repetition.
fn groups(put: u64) -> u64 {
    1 + put % 3
}

async fn open(directory: &Path) -> Store {
    let store = Store::open(directory, Options::default()).unwrap();
    if store.catalog().project("p").is_err() {
        store.create_project("p", "").await.unwrap();
    }
    if store.catalog().logstore("p", "l").is_err() {
        let settings = LogstoreSettings { ttl: 3650, settings: Value::Null };
        store.create_logstore("p", "l", 2, &settings).await.unwrap();
    }
    store
}

/// Puts the groups of a put into a shard. A repetition may choose the other one.
async fn put(store: &Store, put: u64, shard: u32) -> Result<StoredPut, StoreError> {
    let logstore = Arc::clone(store.catalog().logstore("p", "l").unwrap());
    let shard = Arc::clone(logstore.shard(shard).unwrap());
    let group = |part| NewGroup { body: format!("{put}-{part}").into(), size: 1, logs: 1, newest: 7 };
    let id = PutId { key: "k".into(), client: "c".into(), sequence: put as i64, digest: [put as u8; 16] };
    store.put_once(&logstore, &shard, (0..groups(put)).map(group).collect(), id).await
}

/// Counts the groups of a store, by their bodies.
fn stored(store: &Store) -> BTreeMap<String, u32> {
    let all = Limits { groups: usize::MAX, bytes: usize::MAX, end: u64::MAX };
    let mut found = BTreeMap::new();
    let logstore = Arc::clone(store.catalog().logstore("p", "l").unwrap());
    for shard in &logstore.shards {
        let mut next = shard.begin();
        // A read ends at the end of a life of the store.
        while shard.groups_between(next, shard.end()) > 0 {
            let visit = |group: StoredGroup<'_>| {
                *found.entry(String::from_utf8(group.body.to_vec()).unwrap()).or_default() += 1;
                ControlFlow::Continue(())
            };
            next = store.read(shard, next, all, visit).unwrap();
        }
    }
    found
}

/// Loses power at a random operation of the puts, and repeats all of them. Returns the puts that were acknowledged
/// before, and those that the repetition found.
async fn lose_power(seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path());
    let (acked, at_crash) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(PUTS)));
    let (seen, saved) = (Arc::clone(&acked), Arc::clone(&at_crash));
    let store = open(directory.path()).await;
    let hook = move || saved.store(seen.load(Ordering::SeqCst), Ordering::SeqCst);
    disk.crash_at(disk.operations() + random.below(OPERATIONS), hook);
    for number in 0..PUTS {
        put(&store, number, random.below(2) as u32).await.unwrap();
        acked.store(number + 1, Ordering::SeqCst);
    }
    store.close();
    let after = tempfile::tempdir().unwrap();
    disk.crash().materialize(after.path(), &mut random);
    let (store, acked, mut repeated) = (open(after.path()).await, at_crash.load(Ordering::SeqCst), 0);
    for number in 0..PUTS {
        let is_repeated = put(&store, number, random.below(2) as u32).await.unwrap().is_repeated;
        assert!(
            is_repeated || number >= acked,
            "seed {seed}: the acknowledged put {number} was stored again"
        );
        repeated += u64::from(is_repeated);
    }
    let expected = (0..PUTS).flat_map(|put| (0..groups(put)).map(move |part| (format!("{put}-{part}"), 1)));
    assert_eq!(stored(&store), expected.collect(), "seed {seed}");
    store.close();
    (acked, repeated)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_puts_are_stored_once_after_loss_of_power() {
    let (mut acked, mut repeated) = (0, 0);
    for seed in 1..=200 {
        let found = lose_power(seed).await;
        acked += found.0;
        repeated += found.1;
    }
    println!("200 losses of power: {acked} of {} puts were acknowledged, {repeated} found again", 200 * PUTS);
    assert!(acked > 200 && repeated < 200 * PUTS, "{acked} acknowledged, {repeated} found again");
}
