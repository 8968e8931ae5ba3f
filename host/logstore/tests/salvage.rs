//! Salvage of damaged databases.

use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use logship_logstore::{
    Limits, LogstoreSettings, NewGroup, Options, Salvage, Shard, Store, StoreError, StoredGroup,
    check_structure,
};
use rusqlite::Connection;
use serde_json::json;

const ALL: Limits = Limits { groups: usize::MAX, bytes: usize::MAX, end: u64::MAX };
const GROUPS: usize = 400;
const PAGE: u64 = 4096;
/// Unix microseconds.
const NOW: u64 = 1_900_000_000_000_000;

fn body(index: usize) -> Vec<u8> {
    let length = [30, 700, 9000][index % 3];
    format!("group {index} ").into_bytes().into_iter().cycle().take(length).collect()
}

fn shard(store: &Store, number: u32) -> Arc<Shard> {
    Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(number).unwrap())
}

/// Creates a closed store with two shards.
async fn closed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Options::default()).unwrap();
    store.create_project("p", "").await.unwrap();
    store.create_logstore("p", "l", 2, &LogstoreSettings { ttl: 1, settings: json!({}) }).await.unwrap();
    for index in 0..GROUPS {
        let group = NewGroup { body: body(index).into(), size: 1, logs: 1, newest: 7 };
        store.put(&shard(&store, (index % 2) as u32), vec![group]).await.unwrap();
    }
    store.close();
    directory
}

/// Returns the readable log groups of a store; reads on behind missing ones.
fn readable(directory: &Path) -> Vec<Vec<u8>> {
    let store = Store::open(directory, Options::default()).unwrap();
    let mut bodies = vec![];
    for number in 0..2 {
        let shard = shard(&store, number);
        let mut next = shard.begin();
        while shard.groups_between(next, shard.end()) > 0 {
            let visit = |group: StoredGroup<'_>| {
                bodies.push(group.body.to_vec());
                ControlFlow::Continue(())
            };
            next = match store.read(&shard, next, ALL, visit) {
                Ok(next) => next,
                Err(StoreError::Damaged(damage)) => damage.end(),
                Err(error) => panic!("{error}"),
            };
        }
    }
    bodies
}

/// Checks that each readable log group is one of the puts.
fn check(store: &Store, shard: &Shard, puts: &HashSet<Vec<u8>>) {
    let mut next = shard.begin();
    while shard.groups_between(next, shard.end()) > 0 {
        let visit = |group: StoredGroup<'_>| {
            assert!(puts.contains(group.body));
            ControlFlow::Continue(())
        };
        next = match store.read(shard, next, ALL, visit) {
            Ok(next) => next,
            Err(StoreError::Damaged(damage)) => damage.end(),
            Err(error) => panic!("{error}"),
        };
    }
}

fn salvage(directory: &Path) -> (Salvage, usize) {
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("new");
    let before = fs::read(directory.join("logstore.db")).unwrap();
    let salvage = Salvage::run(directory, &to, NOW).unwrap();
    assert!(fs::read(directory.join("logstore.db")).unwrap() == before, "the damaged file is unchanged");
    let bodies = readable(&to);
    let puts: HashSet<_> = (0..GROUPS).map(body).collect();
    assert!(bodies.iter().all(|body| puts.contains(body)));
    (salvage, bodies.len())
}

/// Returns the pages of a table: interior ones, and leaves.
fn pages(directory: &Path, table: &str, kind: &str) -> Vec<u64> {
    let connection = Connection::open(directory.join("logstore.db")).unwrap();
    let mut statement = connection
        .prepare("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY pageno")
        .unwrap();
    let pages = statement.query_map([table, kind], |row| row.get(0)).unwrap();
    pages.collect::<Result<_, _>>().unwrap()
}

fn smash(directory: &Path, page: u64) {
    let file = File::options().write(true).open(directory.join("logstore.db")).unwrap();
    file.write_all_at(&[0xa5; PAGE as usize], (page - 1) * PAGE).unwrap();
}

#[tokio::test]
async fn intact_store_is_copied_completely() {
    let directory = closed().await;
    assert_eq!(check_structure(directory.path()).unwrap(), Vec::<String>::new());
    let (salvage, found) = salvage(directory.path());
    assert_eq!((salvage.groups, salvage.found, found), (GROUPS as u64, 0, GROUPS));
    assert!(salvage.damaged.is_empty() && salvage.broken_tables.is_empty(), "{salvage:?}");
}

#[tokio::test]
async fn smashed_leaf_costs_its_own_log_groups() {
    let directory = closed().await;
    let leaves = pages(directory.path(), "log_group", "leaf");
    smash(directory.path(), leaves[leaves.len() / 2]);
    assert!(!check_structure(directory.path()).unwrap().is_empty());
    let (_, found) = salvage(directory.path());
    assert!((GROUPS - 40..GROUPS).contains(&found), "{found}");
}

#[tokio::test]
async fn smashed_root_costs_nothing() {
    let directory = closed().await;
    for page in pages(directory.path(), "log_group", "internal") {
        smash(directory.path(), page);
    }
    let (salvage, found) = salvage(directory.path());
    assert_eq!((found, salvage.found), (GROUPS, GROUPS as u64), "{salvage:?}");
}

#[tokio::test]
async fn smashed_catalog_keeps_log_groups() {
    let directory = closed().await;
    for page in pages(directory.path(), "logstore", "leaf") {
        smash(directory.path(), page);
    }
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("new");
    let salvage = Salvage::run(directory.path(), &to, NOW).unwrap();
    assert_eq!(salvage.groups, GROUPS as u64);
    let store = Store::open(&to, Options::default()).unwrap();
    let catalog = store.catalog();
    assert_eq!(catalog.logstore("salvaged", "salvaged-1").unwrap().shards.len(), 2);
}

#[tokio::test]
async fn truncated_file_keeps_its_beginning() {
    let directory = closed().await;
    let file = File::options().write(true).open(directory.path().join("logstore.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / PAGE * PAGE).unwrap();
    let (_, found) = salvage(directory.path());
    assert!((GROUPS / 4..GROUPS).contains(&found), "{found}");
}

#[tokio::test]
async fn unreplayed_log_is_salvaged_too() {
    let directory = closed().await;
    // The state after a kill: the write-ahead log has the last puts.
    let store = Store::open(directory.path(), Options::default()).unwrap();
    for index in GROUPS..GROUPS + 50 {
        let group = NewGroup { body: body(index).into(), size: 1, logs: 1, newest: 7 };
        store.put(&shard(&store, 0), vec![group]).await.unwrap();
    }
    let killed = tempfile::tempdir().unwrap();
    for name in ["logstore.db", "logstore.db-wal"] {
        fs::copy(directory.path().join(name), killed.path().join(name)).unwrap();
    }
    drop(store);
    for page in pages(killed.path(), "log_group", "internal") {
        smash(killed.path(), page);
    }
    let target = tempfile::tempdir().unwrap();
    let salvage = Salvage::run(killed.path(), &target.path().join("new"), NOW).unwrap();
    assert_eq!(salvage.groups, GROUPS as u64 + 50, "{salvage:?}");
}

#[tokio::test]
async fn random_damage_never_panics_and_copies_no_wrong_group() {
    let directory = closed().await;
    let database = fs::read(directory.path().join("logstore.db")).unwrap();
    let (mut random, mut complete) = (1_u64, 0);
    let puts: HashSet<_> = (0..GROUPS).map(body).collect();
    for _ in 0..15 {
        let mut damaged = database.clone();
        for _ in 0..20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Not the header: without it there is nothing to salvage.
            let at = (random >> 33) as usize % (damaged.len() - 100) + 100;
            damaged[at] ^= 1 << (random % 8);
        }
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("logstore.db"), damaged).unwrap();
        let to = copy.path().join("new");
        let salvage = Salvage::run(copy.path(), &to, NOW).unwrap();
        let store = Store::open(&to, Options::default()).unwrap();
        for logstore in store.catalog().logstores() {
            for shard in &logstore.shards {
                check(&store, shard, &puts);
            }
        }
        complete += u64::from(salvage.groups > GROUPS as u64 * 9 / 10);
    }
    assert!(complete > 8, "{complete}");
}

#[tokio::test]
async fn refuses_a_directory_in_use_an_old_target_and_a_smashed_header() {
    let directory = closed().await;
    let store = Store::open(directory.path(), Options::default()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("new");
    assert!(matches!(Salvage::run(directory.path(), &to, NOW), Err(StoreError::Locked(_))));
    drop(store);
    Salvage::run(directory.path(), &to, NOW).unwrap();
    assert!(matches!(Salvage::run(directory.path(), &to, NOW), Err(StoreError::File { .. })));
    smash(directory.path(), 1);
    let smashed = check_structure(directory.path()).unwrap_err();
    assert!(matches!(smashed, StoreError::Unsalvageable { .. }), "{smashed}");
}
