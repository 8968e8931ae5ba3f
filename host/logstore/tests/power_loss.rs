//! Loss of power at any moment, on a disk that drops and reorders what was not synced: no acknowledged log is lost.

mod disk;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use logship_logstore::{
    Limits, LogstoreSettings, NewGroup, Options, Shard, Store, StoreError, StoreVerifier,
};
use serde_json::json;

use disk::{Disk, Random};

const ALL: Limits = Limits { groups: usize::MAX, bytes: usize::MAX, end: u64::MAX };

/// The bodies of log groups, by shard and position.
type Groups = BTreeMap<(u32, u64), Vec<u8>>;

/// Opens the store, puts random log groups into two shards, and closes it; `rounds` times. `acked` gets the groups of
/// acknowledged puts.
async fn run(directory: &Path, seed: u64, rounds: usize, acked: &Arc<Mutex<Groups>>) {
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        let store = Arc::new(Store::open(directory, Options::default()).unwrap());
        if store.catalog().project("p").is_err() {
            store.create_project("p", "").await.unwrap();
            let settings = LogstoreSettings { ttl: 1, settings: json!({}) };
            store.create_logstore("p", "l", 2, &settings).await.unwrap();
        }
        for _ in 0..random.below(8) {
            // Puts at the same time share a commit.
            let puts = (0..1 + random.below(3)).map(|_| put(&store, &mut random, acked)).collect::<Vec<_>>();
            for put in puts {
                put.await.unwrap();
            }
        }
        store.close();
    }
}

/// Begins a put of random groups.
fn put(store: &Arc<Store>, random: &mut Random, acked: &Arc<Mutex<Groups>>) -> tokio::task::JoinHandle<()> {
    let groups: Vec<NewGroup> = (0..1 + random.below(3))
        .map(|_| {
            let length = [10, 300, 4096, 60_000][random.below(4) as usize];
            let body: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            NewGroup { body: body.into(), size: 1, logs: 1, newest: 7 }
        })
        .collect();
    let (store, acked, number) = (Arc::clone(store), Arc::clone(acked), random.below(2) as u32);
    tokio::spawn(async move {
        let shard = shard(&store, number);
        let first = store.put(&shard, groups.clone()).await.unwrap();
        let bodies = groups.into_iter().map(|group| group.body.to_vec());
        acked.lock().unwrap().extend((first..).map(|position| (number, position)).zip(bodies));
    })
}

fn shard(store: &Store, number: u32) -> Arc<Shard> {
    Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(number).unwrap())
}

/// Returns all groups of a store.
fn stored(store: &Store) -> Result<Groups, StoreError> {
    let mut groups = Groups::new();
    for number in 0..2 {
        let Ok(logstore) = store.catalog().logstore("p", "l").cloned() else { continue };
        let shard = logstore.shard(number).unwrap();
        store.read(shard, shard.begin(), ALL, |group| {
            groups.insert((number, group.position), group.body.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    Ok(groups)
}

/// Loses power at a random operation. Returns the acknowledged groups, and what the store has after a restart.
async fn lose_power(seed: u64, ignores_sync: bool) -> (Groups, Result<Groups, StoreError>) {
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path());
    disk.ignores_sync.store(ignores_sync, Ordering::SeqCst);
    let (acked, at_crash) = (Arc::<Mutex<Groups>>::default(), Arc::<Mutex<Option<Groups>>>::default());
    let (seen, saved) = (Arc::clone(&acked), Arc::clone(&at_crash));
    disk.crash_at(random.below(700), move || *saved.lock().unwrap() = Some(seen.lock().unwrap().clone()));
    run(directory.path(), seed, 4, &acked).await;
    let acked = at_crash.lock().unwrap().take().unwrap_or_else(|| acked.lock().unwrap().clone());
    let after = tempfile::tempdir().unwrap();
    disk.crash().materialize(after.path(), &mut random);
    let stored = Store::open(after.path(), Options::default()).and_then(|store| {
        let stored = stored(&store)?;
        store.close();
        let verification = StoreVerifier::open(after.path())?.verify(|_| {})?;
        if !ignores_sync {
            let damage: Vec<_> = verification.shards.iter().flat_map(|shard| &shard.damage).collect();
            assert!(damage.is_empty() && verification.contradictions.is_empty(), "seed {seed}: {damage:?}");
        }
        Ok(stored)
    });
    (acked, stored)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_log_is_lost() {
    let (mut crashed, mut groups) = (0, 0);
    for seed in 1..=200 {
        let (acked, stored) = lose_power(seed, false).await;
        let stored = stored.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (place, body) in &acked {
            assert!(stored.get(place) == Some(body), "seed {seed}: the group at {place:?} is lost");
        }
        crashed += u64::from(!acked.is_empty());
        groups += acked.len();
    }
    assert!(crashed > 100 && groups > 1000, "{crashed} crashes behind a put, {groups} groups");
}

/// The test can fail: on a disk that ignores syncs, logs are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_without_sync_loses_logs() {
    let mut lost = 0;
    for seed in 1001..=1020 {
        let (acked, stored) = lose_power(seed, true).await;
        let stored = stored.unwrap_or_default();
        lost += acked.iter().filter(|(place, body)| stored.get(place) != Some(*body)).count();
    }
    assert!(lost > 0);
}
