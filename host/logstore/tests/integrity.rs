//! Damage of the database: each change from outside shows, with its shard and position.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logship_logstore::{
    Clock, Comparison, Flaw, Limits, LogPosition, LogstoreSettings, NewGroup, NewTask, Options, RuleSettings,
    RuleStart, Shard, ShardHead, Store, StoreError, StoreVerifier, TaskId, Verification,
};
use rusqlite::Connection;
use serde_json::json;

const ALL: Limits = Limits { groups: 1000, bytes: usize::MAX, end: u64::MAX };
const START: u64 = 1_700_000_000_000_000;
const DAY: u64 = 86_400_000_000;

fn open(directory: &Path) -> Store {
    open_at(directory, &Arc::new(AtomicU64::new(START)))
}

fn open_at(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    let options = Options { since_boot: Arc::clone(&clock), clock, ..Options::default() };
    Store::open(directory, options).unwrap()
}

fn shard(store: &Store, number: u32) -> Arc<Shard> {
    Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(number).unwrap())
}

fn group(body: &str) -> NewGroup {
    NewGroup { body: body.repeat(200).into(), size: 10, logs: 3, newest: 7 }
}

/// Creates a closed store with two shards of 20 log groups each.
async fn closed() -> (tempfile::TempDir, u64) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.create_project("p", "").await.unwrap();
    store.create_logstore("p", "l", 2, &LogstoreSettings { ttl: 1, settings: json!({}) }).await.unwrap();
    for number in 0..2 {
        for index in 0..20 {
            store.put(&shard(&store, number), vec![group(&format!("group {index} "))]).await.unwrap();
        }
    }
    let begin = shard(&store, 0).begin();
    store.close();
    (directory, begin)
}

fn verify(directory: &Path) -> Verification {
    StoreVerifier::open(directory).unwrap().verify(|_| {}).unwrap()
}

/// Returns the damage, as shard, index of the position, and text.
fn damage(directory: &Path, begin: u64) -> Vec<(u32, u64, Flaw)> {
    let verification = verify(directory);
    let damage = verification.shards.into_iter().flat_map(|shard| shard.damage);
    damage.map(|damage| (damage.shard, damage.position - begin, damage.flaw)).collect()
}

fn change(directory: &Path, sql: &str) {
    let connection = Connection::open(directory.join("logstore.db")).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn bodies(store: &Store, number: u32, from: u64) -> Result<(usize, u64), StoreError> {
    let mut count = 0;
    let next = store.read(&shard(store, number), from, ALL, |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok((count, next))
}

/// The log group with index 7 of shard 1.
const SEVENTH: &str = "(2 << 40) + 7";

#[tokio::test]
async fn intact_store_verifies() {
    let (directory, begin) = closed().await;
    let verification = verify(directory.path());
    for shard in &verification.shards {
        assert_eq!((shard.groups, shard.unverified, shard.damage_count), (20, 0, 0), "{shard:?}");
        assert_eq!((shard.begin, shard.head.cursor), (begin, begin + 20));
    }
    assert_ne!(verification.shards[0].head.head, verification.shards[1].head.head);
    assert_eq!(verification.contradictions, Vec::<String>::new());
}

#[tokio::test]
async fn changed_bytes_are_refused_and_named() {
    for column in ["body", "received", "newest", "logs", "size", "checksum"] {
        let (directory, begin) = closed().await;
        let changed = match column {
            "body" => "body = cast(substr(body, 1, 900) || x'00' || substr(body, 902) AS BLOB)".to_owned(),
            "checksum" => "checksum = cast(x'ff' || substr(checksum, 2) AS BLOB)".to_owned(),
            column => format!("{column} = {column} + 1"),
        };
        change(directory.path(), &format!("UPDATE log_group SET {changed} WHERE id = {SEVENTH}"));
        let found = damage(directory.path(), begin);
        assert!(matches!(found[..], [(1, 7, Flaw::Checksum { .. })]), "{column}: {found:?}");
        let store = open(directory.path());
        // The groups in front of it are served, and those behind it too.
        assert_eq!(bodies(&store, 1, begin).unwrap(), (7, begin + 7), "{column}");
        let refused = bodies(&store, 1, begin + 7).unwrap_err();
        let text = format!("the log group at cursor {} of shard 1 is damaged", begin + 7);
        assert!(refused.to_string().starts_with(&text), "{column}: {refused}");
        assert_eq!(bodies(&store, 1, begin + 8).unwrap(), (12, begin + 20), "{column}");
        assert_eq!(bodies(&store, 0, begin).unwrap(), (20, begin + 20), "{column}");
    }
}

#[tokio::test]
async fn removed_checksum_is_damage() {
    for change_to in ["NULL", "x''", "x'00'"] {
        let (directory, begin) = closed().await;
        change(
            directory.path(),
            &format!("UPDATE log_group SET checksum = {change_to} WHERE id = {SEVENTH}"),
        );
        assert!(matches!(damage(directory.path(), begin)[0], (1, 7, Flaw::NoChecksum)));
        let store = open(directory.path());
        assert!(matches!(bodies(&store, 1, begin + 7), Err(StoreError::Damaged(_))));
    }
}

#[tokio::test]
async fn changed_heads_are_named() {
    let flip = |column: &str| format!("{column} = cast(x'ff' || substr({column}, 2) AS BLOB)");
    let wrong = [
        (format!("UPDATE log_group SET {} WHERE id = {SEVENTH}", flip("head")), (7, Flaw::Head)),
        (format!("UPDATE chain SET {} WHERE shard = 2", flip("head")), (20, Flaw::Ends)),
        (format!("UPDATE chain SET {} WHERE shard = 2", flip("base")), (0, Flaw::Ends)),
        ("UPDATE chain SET next = next - 1 WHERE shard = 2".into(), (19, Flaw::Added { to: 20 })),
        ("UPDATE chain SET next = next + 3 WHERE shard = 2".into(), (20, Flaw::Missing { to: 23 })),
        ("UPDATE chain SET start = start + 1 WHERE shard = 2".into(), (0, Flaw::Ends)),
        ("DELETE FROM chain WHERE shard = 2".into(), (0, Flaw::Ends)),
    ];
    for (sql, expected) in wrong {
        let (directory, begin) = closed().await;
        change(directory.path(), &sql);
        let found = damage(directory.path(), begin);
        let (number, position, flaw) = &found[0];
        let flaw = match flaw {
            Flaw::Missing { to } => Flaw::Missing { to: to - begin },
            Flaw::Added { to } => Flaw::Added { to: to - begin },
            other => other.clone(),
        };
        assert_eq!((*number, (*position, flaw)), (1, expected), "{sql}: {found:?}");
    }
}

#[tokio::test]
async fn moved_and_missing_groups_are_named() {
    let swap = format!(
        "UPDATE log_group SET id = -1 WHERE id = {SEVENTH}; UPDATE log_group SET id = {SEVENTH} WHERE id = {SEVENTH} + 1;
         UPDATE log_group SET id = {SEVENTH} + 1 WHERE id = -1"
    );
    let cases = [
        (swap, vec![7, 8]),
        (format!("DELETE FROM log_group WHERE id = {SEVENTH}"), vec![7]),
        (format!("DELETE FROM log_group WHERE id >= {SEVENTH} AND id < (3 << 40)"), vec![7]),
        ("DELETE FROM log_group WHERE id = (2 << 40)".into(), vec![0]),
        ("DELETE FROM log_group WHERE id = (2 << 40) + 19".into(), vec![19]),
        (format!("UPDATE log_group SET id = id + 100 WHERE id = {SEVENTH}"), vec![7, 20, 107]),
    ];
    for (sql, positions) in cases {
        let (directory, begin) = closed().await;
        change(directory.path(), &sql);
        let found = damage(directory.path(), begin);
        let mut named: Vec<_> = found.iter().map(|(_, position, _)| *position).collect();
        named.sort_unstable();
        assert!(positions.iter().all(|position| named.contains(position)), "{sql}: {found:?}");
        assert!(found.iter().all(|(number, ..)| *number == 1), "{sql}: {found:?}");
        let store = open(directory.path());
        let refused = bodies(&store, 1, begin + positions[0]).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged(_)), "{sql}: {refused}");
        assert_eq!(bodies(&store, 0, begin).unwrap(), (20, begin + 20), "{sql}");
    }
}

#[tokio::test]
async fn positions_of_removed_groups_are_never_reused() {
    let (directory, begin) = closed().await;
    change(directory.path(), "DELETE FROM log_group WHERE id >= (2 << 40) + 15 AND id < (3 << 40)");
    let store = open(directory.path());
    assert_eq!(store.put(&shard(&store, 1), vec![group("new")]).await.unwrap(), begin + 20);
    assert_eq!(bodies(&store, 1, begin + 20).unwrap(), (1, begin + 21));
    store.close();
    let found = damage(directory.path(), begin);
    assert_eq!(found, [(1, 15, Flaw::Missing { to: begin + 20 })]);
}

#[tokio::test]
async fn chain_is_verifiable_after_retention() {
    let (directory, begin) = closed().await;
    let now = Arc::new(AtomicU64::new(START + DAY / 2));
    let store = open_at(directory.path(), &now);
    store.put(&shard(&store, 1), vec![group("late")]).await.unwrap();
    now.fetch_add(DAY / 2 + 60_000_000, Ordering::Relaxed);
    let waiting = Instant::now();
    while shard(&store, 1).begin() < begin + 20 || shard(&store, 0).begin() < begin + 20 {
        assert!(waiting.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    store.put(&shard(&store, 0), vec![group("later")]).await.unwrap();
    // Verification does not disturb a running store.
    let verification = verify(directory.path());
    for shard in &verification.shards {
        assert_eq!((shard.begin, shard.groups, shard.damage_count), (begin + 20, 1, 0), "{shard:?}");
    }
    drop(store);
    assert_eq!(damage(directory.path(), begin), []);
}

#[tokio::test]
async fn kept_heads_show_old_backups() {
    let (directory, begin) = closed().await;
    let file = directory.path().join("logstore.db");
    let backup = std::fs::read(&file).unwrap();
    let heads =
        |directory: &Path| -> Vec<ShardHead> { StoreVerifier::open(directory).unwrap().heads().unwrap() };
    let compare = |kept: &ShardHead| StoreVerifier::open(directory.path()).unwrap().compare(kept).unwrap();
    let old = heads(directory.path());
    let put = async |body: &str| {
        let store = open(directory.path());
        store.put(&shard(&store, 1), vec![group(body)]).await.unwrap();
        store.close();
    };
    put("good").await;
    let kept = heads(directory.path());
    assert_eq!(kept.iter().chain(&old).map(compare).collect::<Vec<_>>(), vec![Comparison::Same; 4]);
    // The backup is consistent in itself.
    std::fs::write(&file, &backup).unwrap();
    assert_eq!(damage(directory.path(), begin), []);
    assert_eq!(compare(&kept[0]), Comparison::Same);
    assert_eq!(compare(&kept[1]), Comparison::Gone { end: begin + 20 });
    put("bad").await;
    assert_eq!(damage(directory.path(), begin), []);
    // The store gives no cursor of its other life out again.
    assert!(matches!(compare(&kept[1]), Comparison::Different { found: None }));
    assert_eq!(compare(&old[1]), Comparison::Same);
    let json = serde_json::to_string(&kept[1]).unwrap();
    assert_eq!(serde_json::from_str::<ShardHead>(&json).unwrap(), kept[1]);
    // The logstore was deleted and created anew.
    assert_eq!(compare(&ShardHead { origin: 1, ..kept[0].clone() }), Comparison::Replaced);
    assert_eq!(compare(&ShardHead { logstore: "gone".into(), ..kept[0].clone() }), Comparison::NoShard);
}

#[tokio::test]
async fn old_groups_are_unverified_and_the_chain_starts_behind_them() {
    let (directory, begin) = closed().await;
    // As an older version left it: the version of the schema in front of the chain.
    change(directory.path(), "UPDATE log_group SET checksum = NULL, head = NULL; DELETE FROM chain");
    let store = open(directory.path());
    store.put(&shard(&store, 1), vec![group("new")]).await.unwrap();
    assert_eq!(bodies(&store, 1, begin).unwrap(), (21, begin + 21));
    store.close();
    let verification = verify(directory.path());
    let found = verification.shards.iter().map(|shard| (shard.unverified, shard.groups, shard.damage_count));
    assert_eq!(found.collect::<Vec<_>>(), [(20, 0, 0), (20, 1, 0)]);
    change(directory.path(), "UPDATE log_group SET checksum = NULL WHERE id = (2 << 40) + 20");
    assert!(matches!(damage(directory.path(), begin)[0], (1, 20, Flaw::NoChecksum)));
}

#[tokio::test]
async fn tasks_have_the_heads_of_their_range() {
    let (directory, begin) = closed().await;
    let store = open(directory.path());
    let logstore = Arc::clone(store.catalog().logstore("p", "l").unwrap());
    let settings = RuleSettings { target: "oss".into(), configuration: json!({}) };
    store.create_rule(&logstore, "ship", settings, RuleStart::Begin).await.unwrap();
    let rule = store.catalog().logstore("p", "l").unwrap().rule("ship").unwrap().clone();
    let task = |number, from, to| NewTask {
        is_sealed: false,
        id: TaskId { created: 1, number },
        shard: 1,
        begin: LogPosition { cursor: begin + from, log: 0 },
        end: LogPosition { cursor: begin + to, log: 0 },
        object: "o".into(),
        received: 0,
        plan: "{}".into(),
        revision: 0,
    };
    let first = store.begin_task(&rule, task(1, 0, 8)).await.unwrap().heads.unwrap();
    let second = store.begin_task(&rule, task(2, 8, 20)).await.unwrap().heads.unwrap();
    assert_eq!(first.after, second.before);
    let head = StoreVerifier::open(directory.path()).unwrap().heads().unwrap()[1].head;
    assert_eq!(second.after, head);
    // A manifest that ends within a group has the head behind that group.
    let end = LogPosition { cursor: begin + 12, log: 2 };
    store
        .save_manifest(
            TaskId { created: 1, number: 2 },
            end,
            Default::default(),
            (TaskId { created: 1, number: 3 }, "o".into()),
        )
        .await
        .unwrap();
    let shrunk = store.task(TaskId { created: 1, number: 2 }).unwrap().heads.unwrap();
    assert_eq!(shrunk.before, second.before);
    assert_ne!(shrunk.after, second.after);
    store.close();
    let verification = verify(directory.path());
    assert_eq!((verification.tasks, verification.contradictions.len()), (2, 0), "{verification:?}");
    for sql in [
        "UPDATE task SET begin_cursor = begin_cursor + 1 WHERE number = 1",
        "UPDATE task SET end_cursor = end_cursor + 1 WHERE number = 1",
        "UPDATE task SET head_after = head_before WHERE number = 1",
        "UPDATE progress SET next_cursor = next_cursor - 10",
        "UPDATE progress SET next_cursor = next_cursor + 100000",
    ] {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join("logstore.db"), copy.path().join("logstore.db")).unwrap();
        change(copy.path(), sql);
        let contradictions = verify(copy.path()).contradictions;
        assert!(!contradictions.is_empty(), "{sql}");
        assert!(contradictions[0].contains("p/l shard 1"), "{contradictions:?}");
    }
}
