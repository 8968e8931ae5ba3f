//! Stage aliases: versions, history, and their effect on tasks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    Clock, LogPosition, LogstoreSettings, NewStageVersion, NewTask, ObjectManifest, Options, RuleSettings,
    RuleStart, StageAction, StageAlias, StageChange, StageEvent, StageTarget, Status, Store, StoreError,
    Task, TaskId,
};
use serde_json::json;

const START: u64 = 1_700_000_000_000_000;

struct Test {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
    store: Store,
}

impl Test {
    async fn new() -> Self {
        let (directory, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(START)));
        let store = open(directory.path(), &now);
        store.create_project("p", "").await.unwrap();
        let settings = LogstoreSettings { ttl: 1, settings: json!({}) };
        store.create_logstore("p", "l", 1, &settings).await.unwrap();
        let logstore = Arc::clone(store.catalog().logstore("p", "l").unwrap());
        let settings = RuleSettings { target: "oss".into(), configuration: json!({}) };
        store.create_rule(&logstore, "r", settings, RuleStart::Begin).await.unwrap();
        Self { directory, now, store }
    }

    fn reopen(self) -> Self {
        let Self { directory, now, store } = self;
        drop(store);
        let store = open(directory.path(), &now);
        Self { directory, now, store }
    }

    fn alias(&self) -> Option<StageAlias> {
        self.store.catalog().stages().aliases.get("mine").cloned()
    }

    fn current(&self) -> Option<StageEvent> {
        self.alias()?.current
    }

    /// Returns the digest that `mine` points to.
    fn current_digest(&self) -> Option<String> {
        self.store.catalog().stages().current("mine").map(str::to_owned)
    }

    fn change(&self, action: StageAction) -> StageChange {
        StageChange {
            name: "mine".into(),
            action,
            kind: "encoder".into(),
            by: "me".into(),
            expected: self.current().map(|current| current.id),
            version: None,
            target: None,
            pinned: None,
        }
    }

    /// Adds a version and points the alias at it.
    async fn swap(&self, version: &str, digest: &str) -> Result<Option<String>, StoreError> {
        let target = StageTarget {
            digest: Some(digest.into()),
            previous: self.current().map(|current| current.id),
            replaced: self.current_digest(),
        };
        let version = NewStageVersion {
            version: version.into(),
            digest: digest.into(),
            size: 7,
            source: format!("{digest}.wasm"),
        };
        let change = self.change(StageAction::Swap);
        self.store.change_stage(StageChange { version: Some(version), target: Some(target), ..change }).await
    }

    async fn begin(&self, number: u64, revision: i64) -> Result<Task, StoreError> {
        let logstore = Arc::clone(self.store.catalog().logstore("p", "l").unwrap());
        let task = NewTask {
            is_sealed: false,
            id: TaskId { created: START * 1000, number },
            shard: 0,
            begin: LogPosition::at(number),
            end: LogPosition::at(number + 1),
            object: format!("o{number}"),
            received: 9,
            plan: format!("uses {:?}", self.current_digest()),
            revision,
        };
        self.store.begin_task(logstore.rule("r").unwrap(), task).await
    }

    fn revision(&self) -> i64 {
        self.store.catalog().stages().revision
    }

    async fn create_failed(&self, number: u64, stage: &str) -> TaskId {
        let task = self.begin(number, self.revision()).await.unwrap();
        self.store.fail_task_in_stage(task.id, Some(stage), "code", "it traps", None).await.unwrap();
        task.id
    }

    /// Returns the time of a task's next attempt.
    fn next_attempt(&self, task: TaskId) -> Option<u64> {
        self.store.task(task).unwrap().next_attempt
    }
}

fn open(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    let (uptime, since_boot) = (Arc::clone(&clock), Arc::clone(&clock));
    Store::open(directory, Options { uptime, since_boot, clock, ..Options::default() }).unwrap()
}

#[tokio::test]
async fn alias_has_versions_and_points_to_one() {
    let test = Test::new().await;
    assert_eq!(test.swap("1.0.0", "aaaaaaaa1").await.unwrap().unwrap(), "1.0.0");
    assert_eq!(test.swap("1.1.0", "bbbbbbbb2").await.unwrap().unwrap(), "1.1.0");
    // Another build with the same version name.
    assert_eq!(test.swap("1.1.0", "cccccccc3").await.unwrap().unwrap(), "1.1.0+cccccccc");
    // A known version.
    assert_eq!(test.swap("1.0.0", "aaaaaaaa1").await.unwrap().unwrap(), "1.0.0");
    let test = test.reopen();
    let alias = test.alias().unwrap();
    let versions: Vec<_> = alias.versions.iter().map(|version| version.version.as_str()).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", "1.1.0+cccccccc"]);
    assert_eq!(alias.digest(), Some("aaaaaaaa1"));
    let found = alias.version("1.1.0").unwrap();
    assert_eq!((found.digest.as_str(), found.size, found.by.as_str()), ("bbbbbbbb2", 7, "me"));
    assert_eq!(found, alias.version("bbbbbbbb2").unwrap());
}

#[tokio::test]
async fn rejects_change_based_on_stale_state() {
    let test = Test::new().await;
    test.swap("1", "a").await.unwrap();
    let stale = test.change(StageAction::Pin);
    test.swap("2", "b").await.unwrap();
    let refused = test.store.change_stage(StageChange { pinned: Some(true), ..stale }).await;
    assert!(matches!(refused, Err(StoreError::StageChanged(_))));
    assert!(!test.alias().unwrap().pinned);
    let refused = test.store.remove_stage("mine", Some("a"), None, "me").await;
    assert!(matches!(refused, Err(StoreError::StageChanged(_))));
    let change = StageChange { pinned: Some(true), ..test.change(StageAction::Pin) };
    test.store.change_stage(change).await.unwrap();
    assert!(test.reopen().alias().unwrap().pinned);
}

#[tokio::test]
async fn history_records_events_and_previous_versions() {
    let test = Test::new().await;
    for (version, digest) in [("1", "a"), ("2", "b"), ("3", "c")] {
        test.swap(version, digest).await.unwrap();
    }
    let mut versions = vec![];
    let mut next = test.current();
    while let Some(event) = next {
        versions.push(event.version.clone());
        next = event.previous.and_then(|previous| test.store.stage_event(previous).unwrap());
    }
    assert_eq!(versions, ["3", "2", "1"]);
    test.store
        .remove_stage("mine", Some("a"), test.current().map(|current| current.id), "other")
        .await
        .unwrap();
    let events = test.store.stage_events("mine", 2).unwrap();
    assert_eq!(
        (events[0].action.as_str(), events[0].digest.as_deref(), &*events[0].by),
        ("remove", Some("a"), "other")
    );
    assert_eq!((events[1].action.as_str(), events[1].version.as_str()), ("swap", "3"));
    assert!(test.store.is_stage_removed("mine", "a").unwrap());
    assert!(!test.store.is_stage_removed("mine", "c").unwrap());
    test.store.remove_stage("mine", None, test.current().map(|current| current.id), "me").await.unwrap();
    assert!(test.store.is_stage_removed("mine", "c").unwrap());
    assert_eq!((test.alias(), test.current_digest()), (None, None));
    let revision = test.revision();
    let test = test.reopen();
    assert_eq!(test.revision(), revision, "the revision never decreases, even if an alias is removed");
}

#[tokio::test]
async fn history_is_bounded() {
    let test = Test::new().await;
    for number in 0..210 {
        test.swap("1", if number % 2 == 0 { "a" } else { "b" }).await.unwrap();
    }
    assert_eq!(test.store.stage_events("mine", 5000).unwrap().len(), 201);
    assert_eq!(test.current_digest().unwrap(), "b");
}

#[tokio::test]
async fn begin_task_rejects_stale_stage_revision() {
    let test = Test::new().await;
    let before = test.revision();
    test.begin(1, before).await.unwrap();
    test.swap("1", "a").await.unwrap();
    assert!(matches!(test.begin(2, before).await, Err(StoreError::StagesChanged)));
    test.begin(2, test.revision()).await.unwrap();
}

#[tokio::test]
async fn replacing_a_stage_retries_its_failed_tasks() {
    let test = Test::new().await;
    test.swap("1", "good").await.unwrap();
    test.swap("2", "bad").await.unwrap();
    let failed = [test.create_failed(1, "bad").await, test.create_failed(2, "bad").await];
    let other_stage = test.create_failed(3, "other").await;
    let with_manifest = test.begin(4, test.revision()).await.unwrap().id;
    let manifest =
        ObjectManifest { rows: 1, raw_bytes: 1, stored_bytes: 1, sha256: "x".into(), objects: vec![] };
    test.store
        .save_manifest(with_manifest, LogPosition::at(5), manifest, (with_manifest, String::new()))
        .await
        .unwrap();
    test.store.fail_task_in_stage(with_manifest, Some("bad"), "code", "", None).await.unwrap();
    // Adding a version replaces nothing.
    let version =
        NewStageVersion { version: "3".into(), digest: "new".into(), size: 1, source: String::new() };
    let change = StageChange { version: Some(version), ..test.change(StageAction::Add) };
    test.store.change_stage(change).await.unwrap();
    assert_eq!(failed.map(|task| test.next_attempt(task)), [None, None]);
    test.swap("1", "good").await.unwrap();
    assert_eq!(failed.map(|task| test.next_attempt(task)), [Some(START), Some(START)]);
    assert_eq!([other_stage, with_manifest].map(|task| test.next_attempt(task)), [None, None]);

    // A retried task may get another plan.
    let task = test.store.start_attempt(failed[0]).await.unwrap();
    assert_eq!(task.stage.as_deref(), Some("bad"));
    let task = test.store.replan_task(task.id, "uses good", "o1-again").await.unwrap();
    assert_eq!((task.object.as_str(), task.stage.as_deref()), ("o1-again", None));
    assert_eq!(test.store.plan(task.plan).unwrap(), "uses good");
    // The objects of a task with a manifest may be at their destination, so its plan stays.
    test.store.start_attempt(with_manifest).await.unwrap_err();
    assert!(matches!(
        test.store.replan_task(with_manifest, "uses good", "o4").await,
        Err(StoreError::NoTask(_))
    ));
    assert_eq!(test.store.task(with_manifest).unwrap().object, "o4");
}

#[tokio::test]
async fn finds_stage_that_fails_every_task() {
    let test = Test::new().await;
    let rule = test.store.catalog().logstore("p", "l").unwrap().rule("r").unwrap().number();
    let failing = || test.store.failing_stage(rule, 3).unwrap().map(|failing| failing.stage);
    let good = test.begin(1, test.revision()).await.unwrap();
    test.store.succeed_task(good.id).await.unwrap();
    for number in 2..4 {
        test.create_failed(number, "bad").await;
        assert_eq!(failing(), None);
    }
    // A running task does not count.
    let running = test.begin(4, test.revision()).await.unwrap();
    assert_eq!(failing(), None);
    let last = test.create_failed(5, "bad").await;
    assert_eq!(failing().as_deref(), Some("bad"));
    test.store.fail_task(running.id, "UnAuthorized", "no", None).await.unwrap();
    assert_eq!(failing(), None, "this failure is not in a stage");
    for number in 6..9 {
        test.create_failed(number, "bad").await;
    }
    assert_eq!(failing().as_deref(), Some("bad"));
    test.create_failed(9, "worse").await;
    assert_eq!(failing(), None, "another stage");
    test.store.retry_tasks(Default::default(), Some(vec![last])).await.unwrap();
    assert_eq!(test.store.start_attempt(last).await.unwrap().status, Status::Running);
    test.store.succeed_task(last).await.unwrap();
    assert_eq!(test.store.task(last).unwrap().stage, None);
}
