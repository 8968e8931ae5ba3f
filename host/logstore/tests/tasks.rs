//! Rules and tasks as the shipper sees them, and across restarts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    CONFIG_NOT_EXIST, Clock, Logstore, LogstoreSettings, NewGroup, NewTask, Options, Place, Progress,
    RuleSettings, RuleStart, Seal, SealedObject, ShippingRule, Status, Store, StoreError, Task, TaskCounts,
    TaskFilter, TaskId,
};
use serde_json::json;

const START: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;

/// A store with one logstore of two shards, and a rule.
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

    fn pass(&self, seconds: u64) {
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

    async fn begin(&self, number: u64, begin: Place, end: Place) -> Result<Task, StoreError> {
        let created = self.now.load(Ordering::Relaxed) * 1000;
        let task = NewTask {
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

    fn all(&self, filter: &TaskFilter) -> (Vec<Task>, TaskCounts) {
        self.store.tasks(filter, 0, 100).unwrap()
    }
}

fn open(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    Store::open(directory, Options { uptime: Arc::clone(&clock), clock, ..Options::default() }).unwrap()
}

fn settings(number: u64) -> RuleSettings {
    RuleSettings { target: "oss".into(), configuration: json!({ "number": number }) }
}

fn seal() -> Seal {
    Seal { rows: 1, raw_bytes: 2, stored_bytes: 3, sha256: "ab".into(), objects: vec![] }
}

fn at(cursor: u64, log: u32) -> Place {
    Place { cursor, log }
}

fn rest(number: u64) -> (TaskId, String) {
    (TaskId { created: 1, number }, format!("rest{number}"))
}

#[tokio::test]
async fn a_rule_is_given_back_as_it_was_and_its_name_is_never_free_again() {
    let test = Test::new().await;
    assert_eq!(test.rule().configuration, json!({ "number": 1 }));
    assert!(matches!(test.create("r", RuleStart::Begin).await, Err(StoreError::RuleExists(_))));
    test.pass(5);
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
async fn a_rule_begins_with_what_is_there_or_with_what_comes() {
    let test = Test::new().await;
    test.put(0, 10).await;
    test.create("late", RuleStart::Now).await.unwrap();
    let logstore = test.logstore();
    let of = |name: &str| test.store.progress(logstore.rule(name).unwrap()).unwrap();
    assert!(of("r").is_empty());
    let (end, late) = (logstore.shard(0).unwrap().end(), of("late"));
    assert_eq!((late.len(), late[&0].next, late[&0].checkpoint), (2, Place::at(end), Place::at(end)));
}

#[tokio::test]
async fn the_checkpoint_moves_with_success_and_not_over_what_failed() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert_eq!((first.status, first.attempts, first.seal.clone()), (Status::Running, 1, None));
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    for task in [&first, &second] {
        assert!(!test.store.seal_task(task.id, task.end, seal(), rest(9)).await.unwrap());
    }
    assert_eq!(test.progress(), Progress { next: at(9, 0), checkpoint: at(5, 0) });
    test.store.succeed_task(second.id).await.unwrap();
    assert_eq!(test.progress().checkpoint, at(5, 0), "the first is not there yet");
    test.store.fail_task(first.id, "UnAuthorized", "no", Some(START + SECOND)).await.unwrap();
    assert_eq!(test.progress().checkpoint, at(5, 0));
    let test = test.reopen();
    test.pass(1);
    assert_eq!(test.store.due_tasks(START + SECOND).unwrap(), [(first.rule_number, first.id)]);
    assert_eq!(test.store.resume_task(first.id).await.unwrap().attempts, 2);
    test.store.succeed_task(first.id).await.unwrap();
    assert_eq!(test.progress(), Progress { next: at(9, 0), checkpoint: at(9, 0) });
}

#[tokio::test]
async fn what_an_object_does_not_take_is_left_for_the_next_task() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert!(!test.store.seal_task(task.id, at(6, 3), seal(), rest(9)).await.unwrap());
    assert_eq!(test.progress().next, at(6, 3));
    assert!(
        matches!(test.begin(2, at(8, 0), at(9, 0)).await, Err(StoreError::Overtaken(next)) if next == at(6, 3)),
        "no task may leave a gap"
    );
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.end, task.seal), (at(6, 3), Some(seal())));
    test.begin(2, at(6, 3), at(9, 0)).await.unwrap();
}

#[tokio::test]
async fn what_a_late_object_does_not_take_is_a_task_of_its_own() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    assert!(test.store.seal_task(first.id, at(7, 2), seal(), rest(9)).await.unwrap());
    let made = test.store.task(rest(9).0).unwrap();
    assert_eq!((made.begin, made.end, made.object.as_str()), (at(7, 2), at(8, 0), "rest9"));
    assert_eq!((made.status, made.plan, made.shard), (Status::Running, first.plan, 0));
    assert_eq!(test.progress().next, at(9, 0));
    for id in [first.id, second.id] {
        test.store.succeed_task(id).await.unwrap();
    }
    assert_eq!(test.progress().checkpoint, at(7, 2));
    assert_eq!(test.reopen().store.running_tasks().unwrap(), [(made.rule_number, made.id)]);
}

#[tokio::test]
async fn a_task_of_several_objects_has_all_of_them_in_its_seal() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert_eq!(task.objects(), [], "nothing is known of them");
    let object = |number: u64| SealedObject {
        object: format!("hour={number}/o"),
        rows: number,
        raw_bytes: 10 * number,
        stored_bytes: 100 * number,
        sha256: format!("{number}{number}"),
    };
    let objects = vec![object(1), object(2), object(3)];
    test.store.seal_task(task.id, at(8, 0), Seal::of(objects.clone()), rest(9)).await.unwrap();
    let test = test.reopen();
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.object.as_str(), task.objects()), ("hour=1/o", objects));
    let sealed = task.seal.unwrap();
    assert_eq!((sealed.rows, sealed.raw_bytes, sealed.stored_bytes), (6, 60, 600));
    assert_eq!(sealed.sha256, "11", "that of the first");
    // The only object of others is known by what the task has.
    let other = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.seal_task(other.id, at(9, 0), seal(), rest(9)).await.unwrap();
    let other = test.store.task(other.id).unwrap();
    let one =
        SealedObject { object: "o2".into(), rows: 1, raw_bytes: 2, stored_bytes: 3, sha256: "ab".into() };
    assert_eq!((other.objects(), other.seal.unwrap().objects), (vec![one], vec![]));
}

#[tokio::test]
async fn a_data_folder_from_before_tasks_had_several_objects_goes_on() {
    let test = Test::new().await;
    let sealed = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    test.store.seal_task(sealed.id, at(8, 0), seal(), rest(9)).await.unwrap();
    let running = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    let Test { directory, now, store } = test;
    drop(store);
    let before = rusqlite::Connection::open(directory.path().join("logstore.db")).unwrap();
    before.execute_batch("ALTER TABLE task DROP COLUMN objects; PRAGMA user_version = 3").unwrap();
    drop(before);
    let test = Test { store: open(directory.path(), &now), directory, now };
    let sealed = test.store.task(sealed.id).unwrap();
    assert_eq!((sealed.object.as_str(), sealed.seal), ("o1", Some(seal())));
    let object =
        SealedObject { object: "k".into(), rows: 1, raw_bytes: 1, stored_bytes: 1, sha256: "c".into() };
    test.store.seal_task(running.id, at(9, 0), Seal::of(vec![object.clone()]), rest(9)).await.unwrap();
    assert_eq!(test.store.task(running.id).unwrap().objects(), [object]);
}

#[tokio::test]
async fn a_task_that_is_cut_has_its_range_before_it_has_an_object() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    assert!(!task.is_cut);
    assert!(!test.store.cut_task(task.id, at(6, 3), 13, rest(9)).await.unwrap());
    assert_eq!(test.progress().next, at(6, 3), "the next task begins there");
    let test = test.reopen();
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.end, task.is_cut, task.seal), (at(6, 3), true, None));
    // Nothing was made of it, and less of it may be.
    test.store.uncut_task(task.id).await.unwrap();
    assert!(!test.store.task(task.id).unwrap().is_cut);
    test.begin(2, at(6, 3), at(9, 0)).await.unwrap();
    assert!(test.store.cut_task(task.id, at(5, 1), 1, rest(9)).await.unwrap());
    let made = test.store.task(rest(9).0).unwrap();
    assert_eq!((made.begin, made.end, made.is_cut), (at(5, 1), at(6, 3), false));
    // Something was.
    assert!(!test.store.seal_task(task.id, at(5, 1), seal(), rest(8)).await.unwrap());
    test.store.uncut_task(task.id).await.unwrap();
    let task = test.store.task(task.id).unwrap();
    assert_eq!((task.end, task.is_cut, task.seal), (at(5, 1), true, Some(seal())));
}

#[tokio::test]
async fn tasks_of_a_deleted_rule_fail_for_good() {
    let test = Test::new().await;
    let task = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    let done = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.succeed_task(done.id).await.unwrap();
    let rule = test.rule();
    test.store.delete_rule(&test.logstore(), "r").await.unwrap();
    let failed = test.store.task(task.id).unwrap();
    assert_eq!(
        (failed.status, failed.code.as_str(), failed.next_try),
        (Status::Failed, CONFIG_NOT_EXIST, None)
    );
    assert_eq!(test.store.task(done.id).unwrap().status, Status::Success);
    assert!(matches!(test.store.resume_task(task.id).await, Err(StoreError::NoTask(_))));
    assert_eq!(test.store.retry_tasks(TaskFilter::default(), None).await.unwrap(), 0);
    test.store.fail_task(task.id, "other", "later", Some(1)).await.unwrap();
    assert_eq!(test.store.task(task.id).unwrap().code, CONFIG_NOT_EXIST);
    let new = NewTask {
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
async fn tasks_are_listed_by_what_is_asked_for() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    test.pass(10);
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.fail_task(second.id, "UnAuthorized", "no", None).await.unwrap();
    let ids = |filter: TaskFilter| test.all(&filter).0.iter().map(|task| task.id.number).collect::<Vec<_>>();
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
    assert_eq!(test.store.retry_tasks(none(), Some(vec![first.id])).await.unwrap(), 0, "it did not fail");
    assert_eq!(test.store.retry_tasks(none(), Some(vec![first.id, second.id])).await.unwrap(), 1);
    assert_eq!(test.store.due_tasks(START + 10 * SECOND).unwrap(), [(second.rule_number, second.id)]);
}

#[tokio::test]
async fn what_succeeded_is_forgotten_and_what_failed_is_not() {
    let test = Test::new().await;
    let first = test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    let second = test.begin(2, at(8, 0), at(9, 0)).await.unwrap();
    test.store.succeed_task(first.id).await.unwrap();
    test.store.fail_task(second.id, "UnAuthorized", "no", None).await.unwrap();
    test.store.forget_tasks(START, 0).await.unwrap();
    assert_eq!(test.all(&TaskFilter::default()).0.len(), 2, "their time is not over");
    test.store.forget_tasks(START + 1, 0).await.unwrap();
    let (left, _) = test.all(&TaskFilter::default());
    assert_eq!((left.len(), left[0].id), (1, second.id));
    assert_eq!(test.progress().checkpoint, at(8, 0));
    assert_eq!(test.store.plan(left[0].plan).unwrap(), "{}");
}

#[tokio::test]
async fn a_shard_is_measured_no_further_than_needed() {
    let test = Test::new().await;
    let logstore = test.logstore();
    let shard = logstore.shard(0).unwrap();
    let begin = shard.begin();
    assert_eq!(test.store.measure(shard, begin, 100).unwrap().bytes, 0);
    for size in [60, 50, 40] {
        test.put(0, size).await;
        test.pass(1);
    }
    let seconds = START / SECOND;
    let some = test.store.measure(shard, begin, 100).unwrap();
    assert_eq!((some.next, some.bytes, some.oldest, some.newest), (begin + 2, 110, seconds, seconds + 1));
    let rest = test.store.measure(shard, some.next, 100).unwrap();
    assert_eq!((rest.next, rest.bytes, rest.oldest), (begin + 3, 40, seconds + 2));
    assert_eq!(test.store.measure(shard, begin + 3, 100).unwrap().next, begin + 3);
}

#[tokio::test]
async fn everything_of_a_logstore_goes_with_it() {
    let test = Test::new().await;
    test.begin(1, at(5, 0), at(8, 0)).await.unwrap();
    test.store.delete_logstore("p", "l").await.unwrap();
    assert_eq!(test.all(&TaskFilter::default()).0.len(), 0);
    assert_eq!(test.store.plans().unwrap(), Vec::<String>::new());
}

#[test]
fn ids_and_places_have_one_text() {
    let id: TaskId = "1484913043351525351_2850008".parse().unwrap();
    assert_eq!((id.created, id.number), (1_484_913_043_351_525_351, 2_850_008));
    assert_eq!(id.to_string(), "1484913043351525351_2850008");
    for wrong in ["", "1", "_", "1_", "a_b", "1_-2", "99999999999999999999_1", "9223372036854775808_1"] {
        assert!(matches!(wrong.parse::<TaskId>(), Err(StoreError::NoTask(_))), "{wrong}");
    }
    assert_eq!([at(5, 0).to_string(), at(5, 2).to_string()], ["5", "5+2"]);
    assert_eq!([at(5, 0).behind(), at(5, 2).behind()], [5, 6]);
}
