//! Rules and tasks, also across restarts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    CONFIG_NOT_EXIST, Clock, LogPosition, Logstore, LogstoreSettings, ManifestEntry, NewGroup, NewTask,
    ObjectManifest, Options, Progress, RuleSettings, RuleStart, ShippingRule, Status, Store, StoreError,
    Task, TaskCounts, TaskFilter, TaskId,
};
use serde_json::json;

const START: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;

/// A store with a rule and a logstore of two shards.
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
        let settings = LogstoreSettings { ttl: 1, settings: json!({}) };
        test.store.create_logstore("p", "l", 2, &settings).await.unwrap();
        test.create("r", RuleStart::Begin).await.unwrap();
        test
    }

    async fn create(&self, name: &str, from: RuleStart) -> Result<(), StoreError> {
        self.store.create_rule(&self.logstore(), name, settings(1), from).await
    }

    fn reopen(self) -> Self {
        let Self { directory, now, store } = self;
        drop(store);
        let store = open(directory.path(), &now);
        Self { directory, now, store }
    }

    fn advance(&self, seconds: u64) {
        self.now.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }

    fn logstore(&self) -> Arc<Logstore> {
        Arc::clone(self.store.catalog().logstore("p", "l").unwrap())
    }

    fn rule(&self) -> ShippingRule {
        self.logstore().rule("r").unwrap().clone()
    }

    async fn put(&self, shard: u32, size: u32) {
        let logstore = self.logstore();
        let group = NewGroup { body: "x".into(), size, logs: 10, newest: 7 };
        self.store.put(logstore.shard(shard).unwrap(), vec![group]).await.unwrap();
    }

    async fn begin(&self, number: u64, begin: LogPosition, end: LogPosition) -> Result<Task, StoreError> {
        let created = self.now.load(Ordering::Relaxed) * 1000;
        let task = NewTask {
            is_sealed: false,
            id: TaskId { created, number },
            shard: 0,
            begin,
            end,
            object: format!("o{number}"),
            received: 9,
            plan: "{}".into(),
            revision: self.store.catalog().stages().revision,
        };
        self.store.begin_task(&self.rule(), task).await
    }

    fn progress(&self) -> Progress {
        self.store.progress(&self.rule()).unwrap()[&0]
    }

    fn list(&self, filter: &TaskFilter) -> (Vec<Task>, TaskCounts) {
        self.store.tasks(filter, 0, 100).unwrap()
    }
}

fn open(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    let (uptime, since_boot) = (Arc::clone(&clock), Arc::clone(&clock));
    Store::open(directory, Options { uptime, since_boot, clock, ..Options::default() }).unwrap()
}

fn settings(number: u64) -> RuleSettings {
    RuleSettings { target: "oss".into(), configuration: json!({ "number": number }) }
}

fn manifest() -> ObjectManifest {
    ObjectManifest { rows: 1, raw_bytes: 2, stored_bytes: 3, sha256: "ab".into(), objects: vec![] }
}

fn at(cursor: u64, log: u32) -> LogPosition {
    LogPosition { cursor, log }
}

fn remainder(number: u64) -> (TaskId, String) {
    (TaskId { created: 1, number }, format!("remainder{number}"))
}

#[tokio::test]
async fn rule_is_returned_unchanged_and_its_name_is_never_reused() {
    let test = Test::new().await;
    assert_eq!(test.rule().configuration, json!({ "number": 1 }));
    assert!(matches!(test.create("r", RuleStart::Begin).await, Err(StoreError::RuleExists(_))));
    test.advance(5);
    let logstore = test.logstore();
    test.store.update_rule(&logstore, "r", settings(2)).await.unwrap();
    let rule = test.rule();
    assert_eq!((rule.configuration, rule.modified - rule.created), (json!({ "number": 2 }), 5));
    test.store.delete_rule(&logstore, "r").await.unwrap();
    let test = test.reopen();
    assert!(test.logstore().rules.is_empty());
    assert!(matches!(test.create("r", RuleStart::Begin).await, Err(StoreError::RuleNameTaken(_))));
    for result in [
        test.store.update_rule(&logstore, "r", settings(3)).await,
        test.store.delete_rule(&logstore, "r").await,
    ] {
        assert!(matches!(result, Err(StoreError::NoRule(_))));
    }
}

#[tokio::test]
async fn rule_begins_at_oldest_or_at_new_logs() {
    let test = Test::new().await;
    test.put(0, 10).await;
    test.create("late", RuleStart::Now).await.unwrap();
    let logstore = test.logstore();
    let of = |name: &str| test.store.progress(logstore.rule(name).unwrap()).unwrap();
    assert!(of("r").is_empty());
    let (end, late) = (logstore.shard(0).unwrap().end(), of("late"));
    assert_eq!(
        (late.len(), late[&0].next, late[&0].checkpoint),
        (2, LogPosition::at(end), LogPosition::at(end))
    );
}

#[tokio::test]
async fn checkpoint_moves_on_success_and_stops_at_failure() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert_eq!((first.status, first.attempts, first.manifest.clone()), (Status::Running, 1, None));
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    for task in [&first, &second] {
        assert!(!test.store.save_manifest(task.id, task.end, manifest(), remainder(9)).await.unwrap());
    }
    assert_eq!(test.progress(), Progress { next: at(9, 0), checkpoint: at(5, 0) });
    test.store.succeed_task(second.id).await.unwrap();
    assert_eq!(test.progress().checkpoint, at(5, 0), "the first task has not succeeded");
    test.store.fail_task(first.id, "UnAuthorized", "no", Some(START + SECOND)).await.unwrap();
    assert_eq!(test.progress().checkpoint, at(5, 0));
    let test = test.reopen();
    test.advance(1);
    assert_eq!(test.store.due_tasks(START + SECOND).unwrap(), [(first.rule_number, first.id)]);
    assert_eq!(test.store.start_attempt(first.id).await.unwrap().attempts, 2);
    test.store.succeed_task(first.id).await.unwrap();
    assert_eq!(test.progress(), Progress { next: at(9, 0), checkpoint: at(9, 0) });
}

#[tokio::test]
async fn next_task_gets_remainder() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert!(!test.store.save_manifest(task.id, at(6, 3), manifest(), remainder(9)).await.unwrap());
    assert_eq!(test.progress().next, at(6, 3));
    assert!(
        matches!(test.begin(2, at(8, 0), at(9, 0)).await, Err(StoreError::NextTaskMoved(next)) if next == at(6, 3)),
        "no task may leave a gap"
    );
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.end, task.manifest), (at(6, 3), Some(manifest())));
    test.begin(2, at(6, 3), at(9, 0)).await.unwrap();
}

#[tokio::test]
async fn remainder_becomes_task_if_next_task_exists() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    assert!(test.store.save_manifest(first.id, at(7, 2), manifest(), remainder(9)).await.unwrap());
    let made = test.store.task(remainder(9).0).unwrap();
    assert_eq!((made.begin, made.end, made.object.as_str()), (at(7, 2), at(8, 0), "remainder9"));
    assert_eq!((made.status, made.plan, made.shard), (Status::Running, first.plan, 0));
    assert_eq!(test.progress().next, at(9, 0));
    for id in [first.id, second.id] {
        test.store.succeed_task(id).await.unwrap();
    }
    assert_eq!(test.progress().checkpoint, at(7, 2));
    assert_eq!(test.reopen().store.running_tasks().unwrap(), [(made.rule_number, made.id)]);
}

#[tokio::test]
async fn manifest_lists_all_objects() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert_eq!(task.objects(), [], "there is no manifest yet");
    let object = |number: u64| ManifestEntry {
        object: format!("hour={number}/o"),
        rows: number,
        raw_bytes: 10 * number,
        stored_bytes: 100 * number,
        sha256: format!("{number}{number}"),
    };
    let objects = vec![object(1), object(2), object(3)];
    test.store
        .save_manifest(task.id, at(8, 0), ObjectManifest::from_entries(objects.clone()), remainder(9))
        .await
        .unwrap();
    let test = test.reopen();
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.object.as_str(), task.objects()), ("hour=1/o", objects));
    let saved = task.manifest.unwrap();
    assert_eq!((saved.rows, saved.raw_bytes, saved.stored_bytes), (6, 60, 600));
    assert_eq!(saved.sha256, "11", "the digest of the first object");
    // Without a list of objects, the object has the key of the task.
    let other = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.save_manifest(other.id, at(9, 0), manifest(), remainder(9)).await.unwrap();
    let other = test.store.task(other.id).unwrap();
    let one =
        ManifestEntry { object: "o2".into(), rows: 1, raw_bytes: 2, stored_bytes: 3, sha256: "ab".into() };
    assert_eq!((other.objects(), other.manifest.unwrap().objects), (vec![one], vec![]));
}

#[tokio::test]
async fn migrates_database_without_object_lists() {
    let test = Test::new().await;
    let with_manifest = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    test.store.save_manifest(with_manifest.id, at(8, 0), manifest(), remainder(9)).await.unwrap();
    let running = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    let Test { directory, now, store } = test;
    drop(store);
    let before = rusqlite::Connection::open(directory.path().join("logstore.db")).unwrap();
    before
        .execute_batch(
            "DROP TABLE chain; ALTER TABLE task DROP COLUMN head_before; ALTER TABLE task DROP COLUMN head_after;
             ALTER TABLE log_group DROP COLUMN checksum; ALTER TABLE log_group DROP COLUMN head;
             DROP TABLE segment; DROP TABLE generation; DROP TABLE counter; DROP TABLE waiting_rule;
             ALTER TABLE task DROP COLUMN generation; ALTER TABLE task DROP COLUMN sealed;
             ALTER TABLE task DROP COLUMN objects; ALTER TABLE task DROP COLUMN lost;
             ALTER TABLE task DROP COLUMN sessions;
             ALTER TABLE consumer_group DROP COLUMN creator; PRAGMA user_version = 3",
        )
        .unwrap();
    drop(before);
    let test = Test { store: open(directory.path(), &now), directory, now };
    let with_manifest = test.store.task(with_manifest.id).unwrap();
    assert_eq!((with_manifest.object.as_str(), with_manifest.manifest), ("o1", Some(manifest())));
    let object =
        ManifestEntry { object: "k".into(), rows: 1, raw_bytes: 1, stored_bytes: 1, sha256: "c".into() };
    test.store
        .save_manifest(running.id, at(9, 0), ObjectManifest::from_entries(vec![object.clone()]), remainder(9))
        .await
        .unwrap();
    assert_eq!(test.store.task(running.id).unwrap().objects(), [object]);
}

#[tokio::test]
async fn fix_range_saves_range_without_manifest() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert!(!task.is_range_fixed);
    assert!(!test.store.fix_range(task.id, at(6, 3), 13, remainder(9)).await.unwrap());
    assert_eq!(test.progress().next, at(6, 3), "the next task begins there");
    let test = test.reopen();
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.end, task.is_range_fixed, task.manifest), (at(6, 3), true, None));
    // No object was made, so the range may shrink.
    test.store.release_range(task.id).await.unwrap();
    assert!(!test.store.task(task.id).unwrap().is_range_fixed);
    test.begin(2, at(6, 3), at(9, 0)).await.unwrap();
    assert!(test.store.fix_range(task.id, at(5, 1), 1, remainder(9)).await.unwrap());
    let made = test.store.task(remainder(9).0).unwrap();
    assert_eq!((made.begin, made.end, made.is_range_fixed), (at(5, 1), at(6, 3), false));
    // Release is a no-op once the manifest is saved.
    assert!(!test.store.save_manifest(task.id, at(5, 1), manifest(), remainder(8)).await.unwrap());
    test.store.release_range(task.id).await.unwrap();
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.end, task.is_range_fixed, task.manifest), (at(5, 1), true, Some(manifest())));
}

#[tokio::test]
async fn tasks_of_deleted_rule_fail_permanently() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    let done = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.succeed_task(done.id).await.unwrap();
    let rule = test.rule();
    test.store.delete_rule(&test.logstore(), "r").await.unwrap();
    let failed = test.store.task(task.id).unwrap();
    assert_eq!(
        (failed.status, failed.code.as_str(), failed.next_attempt),
        (Status::Failed, CONFIG_NOT_EXIST, None)
    );
    assert_eq!(test.store.task(done.id).unwrap().status, Status::Success);
    assert!(matches!(test.store.start_attempt(task.id).await, Err(StoreError::NoTask(_))));
    assert_eq!(test.store.retry_tasks(TaskFilter::default(), None).await.unwrap(), 0);
    test.store.fail_task(task.id, "other", "later", Some(1)).await.unwrap();
    assert_eq!(test.store.task(task.id).unwrap().code, CONFIG_NOT_EXIST);
    let new = NewTask {
        is_sealed: false,
        id: TaskId { created: 1, number: 3 },
        shard: 0,
        begin: at(9, 0),
        end: at(10, 0),
        object: String::new(),
        received: 0,
        plan: String::new(),
        revision: 0,
    };
    assert!(matches!(test.store.begin_task(&rule, new).await, Err(StoreError::NoRule(_))));
}

#[tokio::test]
async fn lists_tasks_by_filter() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    test.advance(10);
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.fail_task(second.id, "UnAuthorized", "no", None).await.unwrap();
    let ids = |filter: TaskFilter| test.list(&filter).0.iter().map(|task| task.id.number).collect::<Vec<_>>();
    let none = TaskFilter::default;
    assert_eq!(ids(none()), [2, 1], "the newest first");
    assert_eq!(ids(TaskFilter { status: Some(Status::Running), ..none() }), [1]);
    assert_eq!(ids(TaskFilter { project: Some("p".into()), logstore: Some("l".into()), ..none() }), [2, 1]);
    assert_eq!(ids(TaskFilter { project: Some("q".into()), ..none() }), [0; 0]);
    assert_eq!(ids(TaskFilter { rule: Some("x".into()), ..none() }), [0; 0]);
    assert_eq!(ids(TaskFilter { shard: Some(1), ..none() }), [0; 0]);
    let seconds = START / SECOND;
    assert_eq!(ids(TaskFilter { from: Some(seconds), to: Some(seconds), ..none() }), [1]);
    assert_eq!(ids(TaskFilter { from: Some(seconds + 1), ..none() }), [2]);
    let (page, counts) = test.store.tasks(&none(), 1, 5).unwrap();
    assert_eq!((page.len(), page[0].id), (1, first.id));
    assert_eq!(counts, TaskCounts { running: 1, success: 0, failed: 1 });
    assert_eq!(
        test.store.retry_tasks(none(), Some(vec![first.id])).await.unwrap(),
        0,
        "the task did not fail"
    );
    assert_eq!(test.store.retry_tasks(none(), Some(vec![first.id, second.id])).await.unwrap(), 1);
    assert_eq!(test.store.due_tasks(START + 10 * SECOND).unwrap(), [(second.rule_number, second.id)]);
}

#[tokio::test]
async fn deletes_old_successful_tasks_only() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.succeed_task(first.id).await.unwrap();
    test.store.fail_task(second.id, "UnAuthorized", "no", None).await.unwrap();
    test.store.delete_old_tasks(START, 0).await.unwrap();
    assert_eq!(test.list(&TaskFilter::default()).0.len(), 2, "they are not old enough");
    test.store.delete_old_tasks(START + 1, 0).await.unwrap();
    let (remaining, _) = test.list(&TaskFilter::default());
    assert_eq!((remaining.len(), remaining[0].id), (1, second.id));
    assert_eq!(test.progress().checkpoint, at(8, 0));
    assert_eq!(test.store.plan(remaining[0].plan).unwrap(), "{}");
}

#[tokio::test]
async fn backlog_stops_at_requested_size() {
    let test = Test::new().await;
    let logstore = test.logstore();
    let shard = logstore.shard(0).unwrap();
    let begin = shard.begin();
    assert_eq!(test.store.backlog(shard, begin, 100).unwrap().bytes, 0);
    for size in [60, 50, 40] {
        test.put(0, size).await;
        test.advance(1);
    }
    let seconds = START / SECOND;
    let first = test.store.backlog(shard, begin, 100).unwrap();
    assert_eq!((first.next, first.bytes, first.oldest, first.newest), (begin + 2, 110, seconds, seconds + 1));
    let second = test.store.backlog(shard, first.next, 100).unwrap();
    assert_eq!((second.next, second.bytes, second.oldest), (begin + 3, 40, seconds + 2));
    assert_eq!(test.store.backlog(shard, begin + 3, 100).unwrap().next, begin + 3);
}

#[tokio::test]
async fn delete_logstore_deletes_its_tasks() {
    let test = Test::new().await;
    test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    test.store.delete_logstore("p", "l").await.unwrap();
    assert_eq!(test.list(&TaskFilter::default()).0.len(), 0);
    assert_eq!(test.store.plans().unwrap(), Vec::<String>::new());
}

#[test]
fn ids_and_positions_have_canonical_text() {
    let id: TaskId = "1484913043351525351_2850008".parse().unwrap();
    assert_eq!((id.created, id.number), (1_484_913_043_351_525_351, 2_850_008));
    assert_eq!(id.to_string(), "1484913043351525351_2850008");
    for invalid in ["", "1", "_", "1_", "a_b", "1_-2", "99999999999999999999_1", "9223372036854775808_1"] {
        assert!(matches!(invalid.parse::<TaskId>(), Err(StoreError::NoTask(_))), "{invalid}");
    }
    assert_eq!([at(5, 0).to_string(), at(5, 2).to_string()], ["5", "5+2"]);
    assert_eq!([at(5, 0).end_cursor(), at(5, 2).end_cursor()], [5, 6]);
}
