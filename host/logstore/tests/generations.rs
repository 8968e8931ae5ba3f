//! Lives of a store: lost ends, restored and copied data.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use logship_logstore::{
    GenerationReason, Limits, LogstoreSettings, NewGroup, Options, RuleSettings, RuleStart, Shard, Store,
    StoreError, StoreVerifier, Unshipped,
};
use serde_json::json;

const ALL: Limits = Limits { groups: 1000, bytes: usize::MAX, end: u64::MAX };

fn open(directory: &Path) -> Store {
    Store::open(directory, Options::default()).unwrap()
}

async fn create(directory: &Path) -> Store {
    let store = open(directory);
    store.create_project("p", "").await.unwrap();
    let settings = LogstoreSettings { ttl: 3650, settings: json!({}) };
    store.create_logstore("p", "l", 1, &settings).await.unwrap();
    store
}

fn shard(store: &Store) -> Arc<Shard> {
    Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(0).unwrap())
}

async fn put(store: &Store, body: &str) -> u64 {
    let group = NewGroup { body: body.to_owned().into(), size: 1, logs: 1, newest: 1 };
    store.put(&shard(store), vec![group]).await.unwrap()
}

/// Returns the groups from a position on, over several reads, and the next position.
fn read(store: &Store, from: u64) -> Result<(Vec<String>, u64), StoreError> {
    let (mut bodies, mut next) = (vec![], from);
    loop {
        let before = bodies.len();
        next = store.read(&shard(store), next, ALL, |group| {
            bodies.push(String::from_utf8(group.body.to_vec()).unwrap());
            ControlFlow::Continue(())
        })?;
        if bodies.len() == before {
            return Ok((bodies, next));
        }
    }
}

/// Copies the database and its log as they are, like a killed process leaves them.
fn copy_database(from: &Path, to: &Path) {
    for name in ["logstore.db", "logstore.db-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn is_other_life<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::OtherGeneration { .. }))
}

/// Opens a store whose database is of an earlier time than its high-water mark.
async fn rolled_back(puts_after: usize) -> (tempfile::TempDir, Store, u64) {
    let (directory, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = create(directory.path()).await;
    put(&store, "both").await;
    copy_database(directory.path(), backup.path());
    let mut last = 0;
    for number in 0..puts_after {
        last = put(&store, &format!("lost {number}")).await;
    }
    store.close();
    drop(store);
    let _ = fs::remove_file(directory.path().join("logstore.db-shm"));
    copy_database(backup.path(), directory.path());
    let store = open(directory.path());
    (directory, store, last)
}

#[tokio::test]
async fn lost_end_shows_and_its_cursors_are_refused() {
    let (_directory, store, last) = rolled_back(3).await;
    let generation = store.generation();
    assert_eq!(
        (generation.number, generation.reason, generation.lost_groups),
        (2, GenerationReason::RolledBack, 3)
    );
    let first = shard(&store).begin();
    assert!(put(&store, "new").await > last, "a used cursor is given out again");
    assert_eq!(read(&store, first).unwrap().0, ["both", "new"]);
    assert_eq!(read(&store, first + 1).unwrap().0, ["new"], "the end of the logs of both lives is no gap");
    assert!(is_other_life(read(&store, last)));
    assert!(is_other_life(store.received_at(&shard(&store), last)));
    let catalog = store.catalog();
    let logstore = catalog.logstore("p", "l").unwrap();
    store.create_group(logstore, "g", 30, false, "key").await.unwrap();
    let catalog = store.catalog();
    let logstore = catalog.logstore("p", "l").unwrap();
    assert!(is_other_life(store.save_checkpoint(logstore, "g", 0, last, "", true).await));
    store.save_checkpoint(logstore, "g", 0, first + 1, "", true).await.unwrap();
    assert_eq!(store.group_status(logstore, "g").unwrap()[0].unread_groups, 1);
}

#[tokio::test]
async fn deleted_write_ahead_log_shows() {
    let (directory, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = create(directory.path()).await;
    store.close();
    drop(store);
    let store = open(directory.path());
    put(&store, "lost").await;
    // The main file, without the log that has the put.
    fs::copy(directory.path().join("logstore.db"), killed.path().join("logstore.db")).unwrap();
    store.close();
    drop(store);
    fs::copy(killed.path().join("logstore.db"), directory.path().join("logstore.db")).unwrap();
    let store = open(directory.path());
    assert_eq!(store.generation().reason, GenerationReason::RolledBack);
    assert_eq!(store.generation().lost_groups, 1);
}

#[tokio::test]
async fn lost_database_shows() {
    let directory = tempfile::tempdir().unwrap();
    let store = create(directory.path()).await;
    store.close();
    drop(store);
    fs::remove_file(directory.path().join("logstore.db")).unwrap();
    let store = open(directory.path());
    assert_eq!(store.generation().reason, GenerationReason::RolledBack, "projects are gone");
}

#[tokio::test]
async fn restart_and_kill_keep_generation() {
    let (directory, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = create(directory.path()).await;
    put(&store, "one").await;
    copy_database(directory.path(), killed.path());
    store.close();
    drop(store);
    // A killed process leaves the log; the index of the log is rebuilt.
    copy_database(killed.path(), directory.path());
    for _ in 0..3 {
        let store = open(directory.path());
        assert_eq!(store.generation().number, 1);
        put(&store, "more").await;
        store.close();
    }
}

#[tokio::test]
async fn copies_show_and_diverge() {
    let (directory, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = create(directory.path()).await;
    put(&store, "both").await;
    store.close();
    drop(store);
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let (store, copied) = (open(directory.path()), open(copy.path()));
    assert_eq!(store.generation().number, 1);
    assert_eq!((copied.generation().number, copied.generation().reason), (2, GenerationReason::Copied));
    let (one, other) = (put(&store, "one").await, put(&copied, "other").await);
    assert_ne!(one, other);
    put(&store, "two").await;
    assert!(is_other_life(read(&copied, one + 1)));
    assert!(matches!(read(&store, other), Err(StoreError::NoCursor { .. })));
    // A further start is of the same generation.
    copied.close();
    drop(copied);
    assert_eq!(open(copy.path()).generation().number, 2);
}

#[tokio::test]
async fn database_without_mark_or_with_another_one_shows() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = create(directory.path()).await;
    store.close();
    drop(store);
    fs::copy(directory.path().join("logstore.db"), other.path().join("logstore.db")).unwrap();
    assert_eq!(open(other.path()).generation().reason, GenerationReason::Replaced);
    let stranger = tempfile::tempdir().unwrap();
    create(stranger.path()).await.close();
    fs::copy(stranger.path().join("logstore.db"), directory.path().join("logstore.db")).unwrap();
    assert_eq!(open(directory.path()).generation().reason, GenerationReason::Replaced);
}

#[tokio::test]
async fn rules_with_unshipped_logs_wait_until_confirmed() {
    for (unshipped, next) in [(Unshipped::Ship, None), (Unshipped::Skip, Some("new"))] {
        let (directory, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = create(directory.path()).await;
        let settings = || RuleSettings { target: "oss".into(), configuration: json!({}) };
        let logstore = || Arc::clone(store.catalog().logstore("p", "l").unwrap());
        store.create_rule(&logstore(), "waits", settings(), RuleStart::Begin).await.unwrap();
        put(&store, "both").await;
        store.create_rule(&logstore(), "shipped", settings(), RuleStart::Now).await.unwrap();
        store.close();
        drop(store);
        copy_database(directory.path(), copy.path());
        let store = open(copy.path());
        let rules: Vec<_> = store.catalog().logstore("p", "l").unwrap().rules.values().cloned().collect();
        let waits = |store: &Store| {
            rules.iter().map(|rule| store.waits_for_generation(rule.number())).collect::<Vec<_>>()
        };
        assert_eq!(waits(&store), [false, true], "only the rule with unshipped logs waits");
        put(&store, "new").await;
        store.close();
        drop(store);
        let store = open(copy.path());
        assert_eq!(waits(&store), [false, true], "also after a restart");
        assert_eq!(store.confirm_generation(unshipped).await.unwrap(), 1);
        assert_eq!(waits(&store), [false, false]);
        let progress = store.progress(&rules[1]).unwrap();
        let begin = progress.get(&0).map(|progress| progress.next.cursor);
        let logs = begin.map(|begin| read(&store, begin).unwrap().0.concat());
        assert_eq!(logs.as_deref(), next);
        store.close();
        drop(store);
        assert_eq!(waits(&open(copy.path())), [false, false]);
    }
}

#[tokio::test]
async fn positions_of_many_generations_are_found_by_time_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    create(directory.path()).await.close();
    let mut positions = vec![];
    for round in 0..5 {
        let _ = fs::read_dir(directory.path()).unwrap().flatten().try_for_each(|entry| {
            if entry.file_name().to_string_lossy().starts_with("high-water") {
                fs::remove_file(entry.path())?;
            }
            std::io::Result::Ok(())
        });
        let store = open(directory.path());
        // Some generations have no logs.
        if round % 2 == 0 {
            positions.push(put(&store, &round.to_string()).await);
        }
        store.close();
    }
    assert!(positions.is_sorted());
    let store = open(directory.path());
    let shard = shard(&store);
    assert_eq!(store.generation().number, 6);
    assert_eq!(store.position_at(&shard, 0).unwrap(), positions[0]);
    assert_eq!(store.position_at(&shard, u64::MAX >> 1).unwrap(), shard.end());
    assert_eq!(read(&store, positions[0]).unwrap().0, ["0", "2", "4"]);
    assert_eq!(store.backlog(&shard, positions[0], u64::MAX).unwrap().next, positions[0] + 1);
    assert_eq!(store.backlog(&shard, positions[0] + 1, u64::MAX).unwrap().next, positions[1] + 1);
    assert_eq!(shard.groups_between(positions[0], shard.end()), 3);
    // The SDKs look for the group before a cursor.
    assert!(store.received_at(&shard, positions[1] - 1).is_ok());
    assert!(is_other_life(store.received_at(&shard, positions[1] - 2)));
}

#[tokio::test]
async fn chain_goes_on_over_generations() {
    let directory = tempfile::tempdir().unwrap();
    create(directory.path()).await.close();
    for round in 0..4 {
        for entry in fs::read_dir(directory.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("high-water") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let store = open(directory.path());
        if round != 1 {
            put(&store, &format!("one {round}")).await;
            put(&store, &format!("two {round}")).await;
        }
        store.close();
        drop(store);
        let verified = StoreVerifier::open(directory.path()).unwrap().verify(|_| ()).unwrap();
        assert_eq!(verified.contradictions, Vec::<String>::new());
        assert_eq!(verified.shards.iter().map(|shard| shard.damage_count).sum::<u64>(), 0);
    }
    let verified = StoreVerifier::open(directory.path()).unwrap().verify(|_| ()).unwrap();
    assert_eq!(verified.shards[0].groups, 6);
    assert_eq!(open(directory.path()).generation().number, 5);
}
