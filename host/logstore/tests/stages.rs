//! Names of stages: what they stand for, what they stood for, and what that means for tasks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{
    Clock, LogstoreSettings, NewStageVersion, NewTask, Options, Place, RuleSettings, RuleStart, Seal,
    StageAction, StageChange, StageEvent, StageName, StageTarget, Status, Store, StoreError, Task, TaskId,
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

    fn name(&self) -> Option<StageName> {
        self.store.catalog().stages().names.get("mine").cloned()
    }

    fn current(&self) -> Option<StageEvent> {
        self.name()?.current
    }

    /// What `mine` stands for.
    fn stands_for(&self) -> Option<String> {
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

    /// Adds a version, and lets the name stand for it.
    async fn take(&self, version: &str, digest: &str) -> Result<Option<String>, StoreError> {
        let target = StageTarget {
            digest: Some(digest.into()),
            before: self.current().map(|current| current.id),
            replaced: self.stands_for(),
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
            id: TaskId { created: START * 1000, number },
            shard: 0,
            begin: Place::at(number),
            end: Place::at(number + 1),
            object: format!("o{number}"),
            received: 9,
            plan: format!("by {:?}", self.stands_for()),
            revision,
        };
        self.store.begin_task(logstore.rule("r").unwrap(), task).await
    }

    fn revision(&self) -> i64 {
        self.store.catalog().stages().revision
    }

    async fn failed(&self, number: u64, stage: &str) -> TaskId {
        let task = self.begin(number, self.revision()).await.unwrap();
        self.store.fail_task_in(task.id, Some(stage), "code", "it traps", None).await.unwrap();
        task.id
    }

    /// When a task is tried next.
    fn next_try(&self, task: TaskId) -> Option<u64> {
        self.store.task(task).unwrap().next_try
    }
}

fn open(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    Store::open(directory, Options { uptime: Arc::clone(&clock), clock, ..Options::default() }).unwrap()
}

#[tokio::test]
async fn a_name_has_versions_and_stands_for_one_of_them() {
    let test = Test::new().await;
    assert_eq!(test.take("1.0.0", "aaaaaaaa1").await.unwrap().unwrap(), "1.0.0");
    assert_eq!(test.take("1.1.0", "bbbbbbbb2").await.unwrap().unwrap(), "1.1.0");
    // Another build that says that it is the same version.
    assert_eq!(test.take("1.1.0", "cccccccc3").await.unwrap().unwrap(), "1.1.0+cccccccc");
    // One that is known already.
    assert_eq!(test.take("1.0.0", "aaaaaaaa1").await.unwrap().unwrap(), "1.0.0");
    let test = test.reopen();
    let name = test.name().unwrap();
    let versions: Vec<_> = name.versions.iter().map(|version| version.version.as_str()).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", "1.1.0+cccccccc"]);
    assert_eq!(name.digest(), Some("aaaaaaaa1"));
    let found = name.version("1.1.0").unwrap();
    assert_eq!((found.digest.as_str(), found.size, found.by.as_str()), ("bbbbbbbb2", 7, "me"));
    assert_eq!(found, name.version("bbbbbbbb2").unwrap());
}

#[tokio::test]
async fn what_was_decided_by_another_state_changes_nothing() {
    let test = Test::new().await;
    test.take("1", "a").await.unwrap();
    let late = test.change(StageAction::Pin);
    test.take("2", "b").await.unwrap();
    let refused = test.store.change_stage(StageChange { pinned: Some(true), ..late }).await;
    assert!(matches!(refused, Err(StoreError::StageChanged(_))));
    assert!(!test.name().unwrap().pinned);
    let refused = test.store.remove_stage("mine", Some("a"), None, "me").await;
    assert!(matches!(refused, Err(StoreError::StageChanged(_))));
    let change = StageChange { pinned: Some(true), ..test.change(StageAction::Pin) };
    test.store.change_stage(change).await.unwrap();
    assert!(test.reopen().name().unwrap().pinned);
}

#[tokio::test]
async fn what_was_done_is_told_and_leads_back() {
    let test = Test::new().await;
    for (version, digest) in [("1", "a"), ("2", "b"), ("3", "c")] {
        test.take(version, digest).await.unwrap();
    }
    let mut way = vec![];
    let mut at = test.current();
    while let Some(event) = at {
        way.push(event.version.clone());
        at = event.before.and_then(|before| test.store.stage_event(before).unwrap());
    }
    assert_eq!(way, ["3", "2", "1"]);
    test.store
        .remove_stage("mine", Some("a"), test.current().map(|current| current.id), "other")
        .await
        .unwrap();
    let told = test.store.stage_events("mine", 2).unwrap();
    assert_eq!(
        (told[0].action.as_str(), told[0].digest.as_deref(), &*told[0].by),
        ("remove", Some("a"), "other")
    );
    assert_eq!((told[1].action.as_str(), told[1].version.as_str()), ("swap", "3"));
    assert!(test.store.is_stage_removed("mine", "a").unwrap());
    assert!(!test.store.is_stage_removed("mine", "c").unwrap());
    test.store.remove_stage("mine", None, test.current().map(|current| current.id), "me").await.unwrap();
    assert!(test.store.is_stage_removed("mine", "c").unwrap());
    assert_eq!((test.name(), test.stands_for()), (None, None));
    let revision = test.revision();
    let test = test.reopen();
    assert_eq!(test.revision(), revision, "it never falls, also when a name is gone");
}

#[tokio::test]
async fn what_was_done_is_not_remembered_for_ever() {
    let test = Test::new().await;
    for number in 0..210 {
        test.take("1", if number % 2 == 0 { "a" } else { "b" }).await.unwrap();
    }
    assert_eq!(test.store.stage_events("mine", 5000).unwrap().len(), 201);
    assert_eq!(test.stands_for().unwrap(), "b");
}

#[tokio::test]
async fn a_task_is_made_by_what_names_stand_for_when_it_is_made() {
    let test = Test::new().await;
    let before = test.revision();
    test.begin(1, before).await.unwrap();
    test.take("1", "a").await.unwrap();
    assert!(matches!(test.begin(2, before).await, Err(StoreError::StagesChanged)));
    test.begin(2, test.revision()).await.unwrap();
}

#[tokio::test]
async fn what_failed_in_a_stage_is_tried_again_when_that_is_replaced() {
    let test = Test::new().await;
    test.take("1", "good").await.unwrap();
    test.take("2", "bad").await.unwrap();
    let failed = [test.failed(1, "bad").await, test.failed(2, "bad").await];
    let of_another = test.failed(3, "other").await;
    let sealed = test.begin(4, test.revision()).await.unwrap().id;
    let seal = Seal { rows: 1, raw_bytes: 1, stored_bytes: 1, sha256: "x".into(), objects: vec![] };
    test.store.seal_task(sealed, Place::at(5), seal, (sealed, String::new())).await.unwrap();
    test.store.fail_task_in(sealed, Some("bad"), "code", "", None).await.unwrap();
    // Adding a version replaces nothing.
    let version =
        NewStageVersion { version: "3".into(), digest: "new".into(), size: 1, source: String::new() };
    let change = StageChange { version: Some(version), ..test.change(StageAction::Add) };
    test.store.change_stage(change).await.unwrap();
    assert_eq!(failed.map(|task| test.next_try(task)), [None, None]);
    test.take("1", "good").await.unwrap();
    assert_eq!(failed.map(|task| test.next_try(task)), [Some(START), Some(START)]);
    assert_eq!([of_another, sealed].map(|task| test.next_try(task)), [None, None]);

    // It is made by another plan then, and that is what it is made by.
    let task = test.store.resume_task(failed[0]).await.unwrap();
    assert_eq!(task.stage.as_deref(), Some("bad"));
    let task = test.store.replan_task(task.id, "by good", "o1-again").await.unwrap();
    assert_eq!((task.object.as_str(), task.stage.as_deref()), ("o1-again", None));
    assert_eq!(test.store.plan(task.plan).unwrap(), "by good");
    // What is sealed may be at its destination: it stays.
    test.store.resume_task(sealed).await.unwrap_err();
    assert!(matches!(test.store.replan_task(sealed, "by good", "o4").await, Err(StoreError::NoTask(_))));
    assert_eq!(test.store.task(sealed).unwrap().object, "o4");
}

#[tokio::test]
async fn a_stage_that_fails_every_task_is_found() {
    let test = Test::new().await;
    let rule = test.store.catalog().logstore("p", "l").unwrap().rule("r").unwrap().number();
    let failing = || test.store.failing(rule, 3).unwrap().map(|failing| failing.stage);
    let good = test.begin(1, test.revision()).await.unwrap();
    test.store.succeed_task(good.id).await.unwrap();
    for number in 2..4 {
        test.failed(number, "bad").await;
        assert_eq!(failing(), None);
    }
    // One that runs says nothing yet.
    let runs = test.begin(4, test.revision()).await.unwrap();
    assert_eq!(failing(), None);
    let last = test.failed(5, "bad").await;
    assert_eq!(failing().as_deref(), Some("bad"));
    test.store.fail_task(runs.id, "UnAuthorized", "no", None).await.unwrap();
    assert_eq!(failing(), None, "another reason is none of the stage");
    for number in 6..9 {
        test.failed(number, "bad").await;
    }
    assert_eq!(failing().as_deref(), Some("bad"));
    test.failed(9, "worse").await;
    assert_eq!(failing(), None, "another stage");
    test.store.retry_tasks(Default::default(), Some(vec![last])).await.unwrap();
    assert_eq!(test.store.resume_task(last).await.unwrap().status, Status::Running);
    test.store.succeed_task(last).await.unwrap();
    assert_eq!(test.store.task(last).unwrap().stage, None);
}
